package balancer

// Reconfigure gives the Brain other settings and keeps what it knows: who sits where and whose seat is leased, the
// lives of the backends, the state of the cluster, the clients on their way. It counts from the next decision on,
// and nobody is moved. A part of the Brain whose settings stay goes on as if nothing had happened: the rotation of a
// strategy continues, and heavy clients and load figures are remembered. When somebody begins to watch
// (Watched), all backends are taken to be at work, as at the start. An unknown strategy is an error and changes
// nothing.
//
// It takes as long as a Join, however many connections there are.
func (b *Brain) Reconfigure(o BrainOptions, now int64) error {
	fresh, err := NewBrain(o, now) // it knows all defaults, and what is wrong
	if err != nil {
		return err
	}
	o = fresh.o
	heavy := o.Heavy != b.o.Heavy
	if heavy {
		b.heavy = fresh.heavy
		b.heavy.forecast = b.forecast
	}
	if o.Load != b.o.Load {
		b.loads = fresh.loads
	}
	if heavy || o.Strategy != b.o.Strategy || o.Placement != b.o.Placement {
		if err := b.replaceStrategy(o); err != nil {
			return err // cannot be: NewBrain has made one with the same settings
		}
	}
	o.Groups.Fallback = b.strategy
	b.groups.options = NewGroups(o.Groups).options
	o.Groups.Fallback = nil
	if o.Watched && !b.o.Watched {
		for _, m := range b.members {
			m.life = Life{Since: now}
		}
	}
	stale := o.Key != b.o.Key || o.Watched != b.o.Watched || o.Phases != b.o.Phases
	b.o = o
	b.seats.Most = o.Most
	b.groups.SetHold(b.hold())
	if stale {
		b.publish(now)
	}
	return nil
}

// replaceStrategy begins with another strategy, which knows what the one before knew of the world.
func (b *Brain) replaceStrategy(o BrainOptions) error {
	o.Placement.Heavy = b.heavy
	next, err := New(o.Strategy, o.Placement)
	if err != nil {
		return err
	}
	if p, ok := next.(Preparer); ok {
		p.Prepare(b.snapshot)
	}
	b.strategy = next
	b.adaptive, _ = next.(*Adaptive)
	switch {
	case b.adaptive != nil:
		b.adaptive.Enter(b.state)
		if b.forecast != nil {
			b.adaptive.metric.Follow(b.forecast) // Heavy has seen it, and knows more by now
		}
	case b.forecast != nil:
		follow(next, b.forecast)
	}
	return nil
}

// hold is the lease of seats in the present state.
func (b *Brain) hold() int64 {
	if hold := b.o.Groups.Hold; hold <= 0 || b.state.Cluster != Rolling {
		return hold
	}
	return max(b.o.Groups.Hold, rollingHold)
}
