// Package mqttparse reads and follows MQTT 3.1, 3.1.1 and 5.0 as far as a load balancer needs them. It is
// pure: bytes come in as arguments, nothing is kept, nothing is allocated on the paths of a connection,
// and there is no I/O, no clock and no goroutine. It has four parts.
//
// # Who is this client?
//
// ParseConnect reads the first packet of a client. Its loop is three lines:
//
//	c, err := mqttparse.ParseConnect(buf[:n])
//	switch {
//	case errors.Is(err, mqttparse.ErrNeedMore): // c.Len is the packet's length once known: refuse it if too large
//	case err != nil: // never: a *SyntaxError with a Kind for the counter
//	default: // route by c.ClientID, forward buf[:n] as it is
//	}
//
// It is strict in size and structure and lenient in content: brokers disagree about a third of all odd
// CONNECT packets, so what can be parsed is accepted, noted in Connect.Nonconforming and left to the
// broker. Connect.StrictError turns these notes into refusals. The parser never changes a packet; forward
// the bytes that came in.
//
// # Where do packets end?
//
// A Tracker follows the packet boundaries of one direction, in 16 bytes of state and a few nanoseconds
// per packet. With one per direction a proxy knows whether a packet may be inserted, whether the broker
// accepted the client, and whether any exchange is still open:
//
//	up.Feed(chunkFromClient, &counts)
//	down.Feed(chunkFromBroker, nil)
//	quiet := up.AtBoundary() && down.AtBoundary() &&
//		mqttparse.Open(&up, &down) == 0 && mqttparse.Open(&down, &up) == 0
//
// # Which groups does it consume?
//
// A Subscriptions, fed beside the two Trackers, notes the $share/<group>/… that the client has subscribed to and the
// broker has granted.
//
// # What may be said to them?
//
// AppendConnack, AppendRedirect, AppendDisconnect, AppendClientDisconnect and AppendPingreq build the few
// packets that a balancer sends itself, AppendConnect the one that probes and load generators begin with.
//
// # Concurrency
//
// All functions are safe for concurrent use. A Connect is as safe as the bytes that it points into. A
// Tracker and a Subscriptions belong to one goroutine at a time.
package mqttparse
