package dataplane

// maxReserve is how many descriptors the data plane leaves to the rest of the
// process: sources, Peek, the state file and what a client library opens.
const maxReserve = 256

// Reserve is how many of a process's open files the data plane never uses, so
// that the control plane works when the data plane is full: 256, and a quarter
// where there are few.
func Reserve(openFiles uint64) uint64 { return min(maxReserve, openFiles/4) }
