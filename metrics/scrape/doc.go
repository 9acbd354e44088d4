// Package scrape reads what brokers report about their own load, in the Prometheus text format, and makes
// of it one figure from 0 to 1 per backend. It knows nothing of discovery or health; they meet in cluster.
//
//	                   every interval
//	Set(backends) ──▶ Scraper ──▶ GET url ──▶ series of the wanted metrics ──▶ figures ÷ scale
//	                     │                                                        │ weighted mean
//	                     └──▶ Reading {Util at this moment, Load over the window, Level, Version} ──▶ OnReading
//
// A scraper runs until its context ends:
//
//	scraper, err := scrape.New(scrape.Options{
//		Preset: "hivemq",
//		Clock:  clock, // of the load controller
//		OnReading: func(r scrape.Reading) {
//			loads.Observe(r.Backend, r.Load, clock()) // balancer.Loads
//			vitals[r.Backend].Util = r.Util           // balancer.Vitals
//			vitals[r.Backend].Level = r.Level
//		},
//	})
//	…
//	go scraper.Run(ctx)
//	scraper.Set(backends) // whenever the set changes
//
// # How a metric is written
//
// As in PromQL, of which this is a small part:
//
//	emqx_vm_cpu_use                                   the sum of all series of a metric
//	vm_memory{kind="heap",area!~"old|perm"}           of those whose labels fit: = != =~ !~, patterns fit whole values
//	rate(com_hivemq_messages_incoming_publish_count)  what a counter gains per second, from one scrape to the next
//	memory_used_bytes / memory_limit_bytes            one divided by another, up to four
//
// Series are added up, never averaged: a metric per core needs the number of cores as its scale, or as a
// divisor. A rate is asked for in so many words, because types are not to be trusted: HiveMQ exports its
// counters as gauges (hivemq.md, 3.1). The reverse, a counter without rate, is reported as an error. There
// is no other function and no other operator: what is to be added is written as several figures.
//
// # From metrics to a load
//
// Each figure is divided by its scale, the value that means fully loaded; the load is the mean of all
// figures by their weights. A backend that lacks one of them has no load, for a mean of fewer says
// something else. A figure may be above 1 while a backend is overloaded, and is kept so; more than ten
// times its scale is an error, as it comes from a wrong scale (percent for 0…1) that would turn every
// backend hot. So is a negative figure, which is how Java says that it does not know.
//
// Util is the load of the latest scrape, Load its time-weighted mean over the window, which is what the
// load controller predicts from (algorithms.md, 4.3); after a gap a value stands for no more than two
// intervals. Exporters that give means already should not be averaged again: every smoothing adds dead
// time (4.2). Level is the hot metric, as it is. The weighted mean hides one resource that is exhausted
// among others that are not; a metric that should turn a backend hot by itself belongs into hot.
//
// Version is no figure but the value of a label, as brokers report their versions: the value of a metric such as
// rabbitmq_build_info is always 1. Of several series the first counts.
//
// # How to add a preset
//
// One entry in the table of preset.go, with a comment about how far its names and units are verified; a
// page of such a broker in testdata, cut down to some dozen lines, with what it should give in
// preset_test.go; its name in the configuration. Choose figures that
//   - are the node's own, not the cluster's: one scrape target is one node,
//   - have a natural full scale (CPU and scheduler utilisation have; connections and messages have not),
//   - are of this moment, or of some seconds at most.
//
// A preset has a version only if a page of such a broker was seen that has it.
//
// Heap of a JVM is none: between collections it always fills up.
//
// # What can go wrong
//
// Nothing that a backend answers does more than an Err in its Reading: connections that hang, pages that
// are huge, cut off, compressed to a bomb, in another format, or hold nonsense. Reading a page takes the
// memory of the wanted series and one line, whatever its size; lines of other metrics are skipped by
// their names, and may hold any nonsense. A Reading without new figures lets the old ones go stale, which
// is the load controller's to notice. Timestamps of samples are ignored.
//
// # Concurrency
//
// Set and Status may be called from any goroutine. OnReading is called from the goroutine of Run, one
// call at a time. Nothing here outlives Run.
package scrape
