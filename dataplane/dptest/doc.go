// Package dptest has the TCP peers that stand on both sides of the data plane
// in its tests, and what a test needs to judge it by.
//
// A [Peer] is one end of a connection. It plays a list of [Op]s: write and read
// bytes of a known pattern, half-close, close, reset, stop reading until an
// [Event], expect an end of stream or a reset. A [Backend] is a listener that
// hands out the peers it accepted, or gives each to a handler:
//
//	backend := dptest.Listen(t)
//	client := dptest.Dial(t, proxy)
//	server := backend.Accept(t)
//	dptest.Pair(client, server)
//	dptest.Play(t,
//		dptest.Role{Peer: client, Ops: []dptest.Op{dptest.Write(1 << 20), dptest.HalfClose(), dptest.ReadToEOF(0)}},
//		dptest.Role{Peer: server, Ops: []dptest.Op{dptest.ReadToEOF(1 << 20), dptest.Close()}},
//	)
//
// Every byte of a stream depends on its position, on the direction and on the
// session ([Pattern]), and every byte is compared: lost, doubled, swapped and
// foreign bytes are all found, at the position where they are.
//
// A test run has a network of its own where that is permitted ([Isolate]), so
// that no other program takes its ports.
//
// Nothing here sleeps. A test waits for a condition with a deadline
// ([Eventually]), and a peer whose counterpart falls silent fails with a
// timeout after [Patience].
//
// The package does not import the data plane, so that the data plane's
// internal tests can use it too.
package dptest
