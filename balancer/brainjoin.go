package balancer

import "maps"

// Join makes this list the backends of the cluster. Names must be unique. The backends of the first list are
// taken to be at work, and so are those of a list that names nobody of the one before: nobody would be served by
// waiting for them. One that joins later has to settle first, if anybody watches.
//
// A backend that is not in the list any more has left. While it holds connections it stays in the Snapshot, marked as
// Left, and plans empty it. One that returns is the same backend as before.
func (b *Brain) Join(set []Backend, now int64) {
	first, named := !b.joined || b.replacedBy(set), make(map[string]struct{}, len(set))
	for _, backend := range set {
		named[backend.Name] = struct{}{}
		m := b.members[backend.Name]
		if m == nil {
			m = &brainMember{left: true}
			b.members[backend.Name] = m
		}
		if m.left {
			m.left, m.life, m.vitals, m.version = false, Life{Since: now}, Vitals{}, ""
			if !first {
				m.life = Discovered(now)
				b.uneven, b.changed = true, now
			}
		}
		if backend.Address != m.backend.Address {
			m.version = "" // it is another process
		}
		backend.Left = false
		m.backend = backend
	}
	for name, m := range b.members {
		if _, still := named[name]; !still {
			if !m.left {
				m.leftAt = now
			}
			if m.life.Phase == Draining || m.backend.Phase == Draining {
				m.leftAt = 0
			}
			m.left, m.vitals = true, Vitals{}
			b.forget(name, m)
		}
	}
	b.joined = b.joined || len(set) > 0
	b.publish(now)
}

// replacedBy tells whether a list names nobody of those who belong to the cluster now.
func (b *Brain) replacedBy(set []Backend) bool {
	for i := range set {
		if m := b.members[set[i].Name]; m != nil && !m.left {
			return false
		}
	}
	return b.snapshot.members > 0
}

// forget drops a backend that has left and holds no connection any more, and tells whether it has.
func (b *Brain) forget(name string, m *brainMember) bool {
	if !m.left || m.live > 0 {
		return false
	}
	delete(b.members, name)
	delete(b.overdue, name)
	b.moved.prune(name)
	return true
}

// publish makes a new snapshot of the members.
func (b *Brain) publish(now int64) {
	list := make([]Backend, 0, len(b.members))
	for _, m := range b.members {
		backend := m.backend
		backend.Labels = m.labels()
		switch {
		case m.left:
			backend.Left = true
		case b.o.Watched:
			backend.Phase, backend.Ramp = m.life.Phase, b.ramp(m, now)
		}
		list = append(list, backend)
	}
	b.renamed = false
	b.snapshot = NewSnapshot(b.snapshot.Generation+1, b.o.Key, list)
	if p, ok := b.strategy.(Preparer); ok {
		p.Prepare(b.snapshot)
	}
	b.seats = NewSeats(b.snapshot)
	b.seats.Most = b.o.Most
	b.order = b.order[:0]
	for i := range b.snapshot.Backends {
		m := b.members[b.snapshot.Backends[i].Name]
		b.order = append(b.order, m)
		b.seats.Live[i] = m.live
		b.seats.Total += m.live
	}
}

// labels are those that the source names, with the version that the broker reports if they have none.
func (m *brainMember) labels() map[string]string {
	if m.version == "" || m.backend.Labels[VersionLabel] != "" {
		return m.backend.Labels
	}
	labels := maps.Clone(m.backend.Labels) // they belong to the source
	if labels == nil {
		labels = make(map[string]string, 1)
	}
	labels[VersionLabel] = m.version
	return labels
}

// ramp is the factor for the weight of a member, in steps.
func (b *Brain) ramp(m *brainMember, now int64) float64 {
	r := m.life.Ramp(&b.o.Phases, now)
	return float64(int(r*rampSteps+0.5)) / rampSteps
}
