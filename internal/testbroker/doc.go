// Package testbroker runs real MQTT brokers inside the process, for tests and for mqttlb demo.
//
// A broker listens on a port of 127.0.0.1, speaks MQTT 3.1, 3.1.1 and 5, and lets everybody in. It can
// leave and come back on the same port, which is what a load balancer's tests want from it:
//
//	b, err := testbroker.Start(testbroker.Options{Record: 100})
//	…
//	defer b.Stop()
//	connect(b.Addr())
//	b.Clients()  // who is connected now
//	b.Messages() // what they have published, in order
//	b.Stop()     // every connection is closed, as in a crash
//	b.Restart()  // it is back, on the same address, and remembers nothing
//
// A Mesh is a cluster: what is published on one broker reaches the subscribers of all of them.
//
//	m, err := testbroker.StartMesh(3, testbroker.Options{})
//	…
//	defer m.Stop()
//	m.Brokers()[1].Stop()
//
// # What to rely on
//
// A client that has got its CONNACK is in Clients. A message whose PUBACK has arrived is in Messages. When
// Stop returns, the port is free and every connection and callback has ended. All methods may be called
// from any goroutine.
//
// # What a mesh does not do
//
// It forwards messages (with their quality of service, properties and the retain flag) and nothing else.
// Sessions stay on the broker on which they began, a client id may be connected to two brokers at once, and
// a shared subscription delivers one copy for each broker that has members of it.
//
// The brokers are github.com/mochi-mqtt/server. This package accepts the connections itself, because
// mochi's listeners leave connections without CONNECT open when they close, and reads nothing of mochi's
// state that its own goroutines write without a lock.
package testbroker
