// Package consultest starts real Consul agents for tests, the demo and the
// benchmarks, each on ports of its own and in a directory of its own, so that
// any number of them run side by side.
//
// A test needs one line:
//
//	agent := consultest.New(t, consultest.Options{})
//
// and has a leader to register services with; the agent ends with the test, and
// if the test failed the end of the agent's log is printed. Programs that are
// no tests use [Start] and [Agent.Close].
//
// The binary is the one that $CONSUL names, else bin/consul at the root of the
// repository, else consul on PATH.
//
// What can be done to an agent is what happens to agents in production: it can
// be killed, stopped so that its connections stay open and silent, and started
// again on the same ports with the same data. An agent never outlives the
// process that started it.
package consultest
