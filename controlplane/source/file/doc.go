// Package file is the source that reads a routing file (package routing has its
// schema) and follows its changes.
//
// Two things watch the file. Notifications of the kernel, for the directory it
// is in and the one its symbolic links end in, make a change take effect at
// once; a look every two seconds (identity, size, time of change) finds what
// they missed: a directory that was itself replaced, a network file system, no
// inotify instance to be had. The directory is watched rather than the file
// because editors and deployment tools replace the file, and Kubernetes swaps a
// link two levels up.
//
// A file renamed into place is complete, so it is read within milliseconds. One
// that is written in place is read when the writing has paused for 50 ms; what
// is written slower than that may be seen in part, which only a rename avoids.
//
// Whatever happens to the file – gone, unreadable, cut off, nonsense – the last
// good content stays in force, and the snapshot and the log say so.
package file
