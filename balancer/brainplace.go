package balancer

// Place chooses a backend for one attempt of a client and counts it there. tried names the backends that have
// failed this client during this connect. It returns the position in Snapshot, or -1 and cause NoBackend.
func (b *Brain) Place(c Client, tried []string, now int64) (int, Reason) {
	b.try(tried)
	c = b.known(c)
	i, why := b.settled(c, now)
	switch {
	case i >= 0:
	case c.Group != "":
		i, why = b.groups.Place(c, b.snapshot, b.seats, now)
	default:
		i, why = b.strategy.Pick(c, b.snapshot, b.seats)
	}
	why = b.crowded(i, why)
	if i >= 0 {
		b.seats.Take(i)
		b.order[i].live++
		b.heavy.Took(c.ID, b.snapshot.Backends[i].Name)
		b.moved.arrive(c.ID, now)
	}
	return i, why
}

// Shun makes these backends the ones that get a client only if there is nobody else, until the next call or the next
// Snapshot. Names that are not in the Snapshot are ignored.
func (b *Brain) Shun(names []string) {
	b.seats.Shunned = b.seats.Shunned[:0]
	for _, name := range names {
		if i := b.snapshot.Index(name); i >= 0 {
			b.seats.Shunned = append(b.seats.Shunned, i)
		}
	}
}

// Another tells whether a client that Place has just put on backend i could go elsewhere, if that one does not take it.
func (b *Brain) Another(i int) bool {
	for j := range b.snapshot.Backends {
		if j != i && b.snapshot.rank(j, b.seats, 0) != rankNone {
			return true
		}
	}
	return false
}

// Preview answers as Place would and changes nothing.
func (b *Brain) Preview(c Client, tried []string, now int64) (int, Reason) {
	b.try(tried)
	c = b.known(c)
	if i, why := b.settled(c, now); i >= 0 {
		return i, why
	}
	var i int
	var why Reason
	if c.Group != "" {
		i, why = b.groups.Preview(c, b.snapshot, b.seats, now)
	} else {
		i, why = Preview(b.strategy, c, b.snapshot, b.seats)
	}
	return i, b.crowded(i, why)
}

// crowded corrects the reason for which a client has got no place, if it is the limit of the backends alone.
func (b *Brain) crowded(i int, why Reason) Reason {
	if i < 0 && b.snapshot.allFull(b.seats) {
		why.Cause = AllFull
	}
	return why
}

// Regular tells whether the cluster has something of the client: a session that outlives connections, a place in a group,
// a place that a plan has for it, or that it was heavy when it was here.
func (b *Brain) Regular(c Client, now int64) bool {
	if c.Persistent || c.Group != "" || c.ID != "" && b.heavy.Rate(c.ID) > 0 {
		return true
	}
	i, _ := b.pinned(c, now)
	return i >= 0
}

// known is the client as the placement sees it: one whose session is tied to a broker is placed by its hash
// alone, whatever group it is in.
func (b *Brain) known(c Client) Client {
	if b.o.Placement.NodeScope && c.Persistent {
		c.Group = ""
	}
	return c
}

// Release ends a connection that Place has put on a backend, or an attempt that did not come about.
func (b *Brain) Release(c Client, backend string, how Leave, now int64) {
	m := b.members[backend]
	if m == nil || m.live == 0 {
		return
	}
	m.live--
	i := b.snapshot.Index(backend) // it is there: it holds a connection
	b.seats.Live[i]--
	b.seats.Total--
	b.heavy.Gone(c.ID, backend, now)
	b.moved.gone(c.ID, backend, how, now)
	if c = b.known(c); c.Group != "" {
		b.groups.Release(c, backend, how, now)
	}
	if b.forget(backend, m) {
		b.publish(now)
	}
}

// Move begins a planned move: the next Place of the client goes where the plan said, unless that backend cannot
// take it any more; a member of a group has its seat there from now on, for as long as a lease. Release still
// follows when the connection ends. Clients without an id cannot be recognised when they come again.
func (b *Brain) Move(c Client, from, to string, now int64) {
	b.depart(c, from, to, b.heavy.Rate(c.ID), now)
}

// depart is Move of a client with this traffic. An empty to leaves the next place open.
func (b *Brain) depart(c Client, from, to string, rate float64, now int64) {
	if c = b.known(c); c.Group != "" {
		b.groups.Reseat(c, from, to, b.snapshot, now)
	}
	if len(c.ID) > maxName {
		c.ID = ""
	}
	if len(c.Group) > maxName {
		c.Group = ""
	}
	b.moved.add(c, from, to, rate, b.heavy.isHeavy(c.ID), now)
}

// stay takes a Move back: the connection goes on.
func (b *Brain) stay(c Client, from string, now int64) {
	if x := b.moved.cancel(c.ID); x != nil && x.group != "" {
		b.groups.unseat(b.known(c), from, x.to, b.snapshot, now)
	}
}

// settled is the place of a client that is known before its strategy or its group is asked, -1 if none is.
func (b *Brain) settled(c Client, now int64) (int, Reason) {
	if i, why := b.pinned(c, now); i >= 0 {
		return i, why
	}
	if c.At == "" || c.Group != "" {
		return -1, Reason{}
	}
	i := b.snapshot.Index(c.At)
	if i < 0 {
		return -1, Reason{}
	}
	tied := b.o.Placement.NodeScope && c.Persistent
	if r := b.snapshot.rank(i, b.seats, 0); r == rankFit || tied && r != rankNone {
		return i, Reason{Strategy: "assigned-id", Cause: Resumed}
	}
	return -1, Reason{}
}

// pinned is the place that a plan has chosen for a client.
func (b *Brain) pinned(c Client, now int64) (int, Reason) {
	to := b.moved.place(c.ID, now)
	if to == "" || c.Group != "" && b.groups.seatsFor(c) { // a member has a seat there
		return -1, Reason{}
	}
	i := b.snapshot.Index(to)
	if i < 0 || b.snapshot.rank(i, b.seats, 0) != rankFit {
		return -1, Reason{}
	}
	return i, Reason{Strategy: "planner", Cause: Planned}
}

func (b *Brain) try(tried []string) {
	b.seats.Tried = b.seats.Tried[:0]
	for _, name := range tried {
		b.seats.Tried = append(b.seats.Tried, b.snapshot.Index(name))
	}
}
