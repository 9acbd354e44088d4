// Package admin is the operator's HTTP API: it shows what runs and steers it.
//
//	a, err := admin.New(admin.Options{
//		Address: "127.0.0.1:9180", Socket: "/run/mqttlb/admin.sock",
//		Proxy: p, Clusters: clusters, Metrics: m.Handler(), Reload: reload, Log: log,
//	})
//	…
//	err = a.Listen()  // errors come here, before the first client does
//	go a.Serve(ctx)   // until ctx is done
//	a.SetReady()      // from now on /readyz answers 200
//	…
//	a.SetStopping()   // /readyz answers 503; everything else goes on until ctx is done
//
// # Who may do what
//
// There are two ways in. Everybody who reaches the TCP address may read; to write, a request needs the
// bearer token, and without a configured token there are no writes over TCP at all. Whoever may open the
// unix socket may do everything: its mode 0660 is the check, and the kernel's word for who the peer is
// goes into the log with every write.
//
// # What it answers
//
//	GET  /                                   a page that lists all this
//	GET  /livez                              200 while the process runs
//	GET  /readyz                             200, or 503 and the reason as text
//	GET  /metrics                            for Prometheus
//	GET  /api/v1/status                      Status
//	GET  /api/v1/clusters                    ClusterList
//	GET  /api/v1/clusters/{cluster}          cluster.Status
//	GET  /api/v1/clusters/{cluster}/backends BackendList
//	GET  /api/v1/clusters/{cluster}/groups?limit=                   GroupList
//	GET  /api/v1/clusters/{cluster}/lost?limit=                     LostList
//	GET  /api/v1/clients?cluster=&backend=&group=&prefix=&limit=    ClientList
//	GET  /api/v1/explain?cluster=&client_id=&persistent=            Explanation
//	GET  /api/v1/events?cluster=&kind=       a stream of Event, and Missed
//	POST /api/v1/clusters/{cluster}/backends/{backend}/drain        DrainRequest, BackendChange
//	POST /api/v1/clusters/{cluster}/backends/{backend}/resume       BackendChange
//	POST /api/v1/clusters/{cluster}/rebalance                       RebalanceRequest, Plan
//	POST /api/v1/clusters/{cluster}/state    StateRequest, cluster.Status
//	POST /api/v1/reload                      Reloaded
//
// Errors are a Failure with a 4xx or 5xx status. A parameter or a field that is not known is an error and
// not ignored: a filter with a typo must not look like an answer.
//
// The types above are the wire format and the commands decode into them. Client ids are bytes that
// JSON cannot always carry; where one is not UTF-8, its field client_id_hex has the exact bytes. So it is
// with the names of groups and group_hex.
//
// A write that the cluster refuses, the drain of its last backend for example, is a 409 with the reason.
//
// # Events
//
// Events are server-sent: id, event (its kind) and data, one line of JSON, with a comment every 15 s so that
// either side notices when the other is gone. A Hub remembers the latest 1024 for all listeners together. Whoever is
// slower than that gets the event "missed" with their number; nobody waits for a listener. With Last-Event-ID, a
// listener goes on where it was. At most 32 listen over TCP at a time, and 32 over the socket; at the end, the
// streams end before everything else.
//
// # Who owns what
//
// A Server may be used from any goroutine. It keeps no state but its stage (starting, ready, stopping) and the Hub;
// everything it shows is asked of Proxy and Cluster at the moment of the request. It never touches the
// data path: reading the clients visits the event loops in small steps, and nothing else goes there.
//
// # How to read it and how to add
//
//	server.go        Options, the Server, its stages, start and stop
//	listen.go        the two sockets, and what to do when they cannot be opened
//	access.go        who may write, and the log of it
//	route.go         the table of endpoints; from a function to an HTTP answer   ← begin here
//	answer.go        the types of the wire format; answermoves.go has those about moves
//	show.go          the reads
//	steer.go         the writes; rate.go reads their rates
//	hub.go           the events, and stream.go how they are told
//	page.go          the page at /
//
// A new endpoint is one line in the table of route.go and one function in show.go or steer.go that
// takes a request and returns a value or an error.
package admin
