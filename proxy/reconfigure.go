package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// ErrStopped is what Reconfigure returns when the Proxy does not serve: before Start, and from StopAccepting on.
var ErrStopped = errors.New("mqttlb is not accepting connections")

// Reconfigure makes these the listeners, all or nothing: if one cannot be opened, nothing has changed, and the error
// is a ListenError.
//
// A listener whose address stays keeps its sockets, also under another name: no connection is refused meanwhile. Its
// limits and its Placer count for the connections that are accepted from now on. A listener with a new address
// listens there before it stops to listen at the old one. One that is not in the list any more stops to listen;
// connections that wait in its queue are still served. No session notices any of this.
//
// A list in which nothing has changed does nothing. Names are resolved only for addresses that are new.
func (p *Proxy) Reconfigure(list []Listener) error {
	c, err := p.Prepare(list)
	if err != nil {
		return err
	}
	return c.Apply()
}

// Prepare is the first half of Reconfigure, in which nearly everything that can fail does: afterwards all new
// addresses are known to be free, nobody is served there yet, and nothing else has changed. The Change must be applied
// soon, or abandoned; until then, the next Prepare waits.
func (p *Proxy) Prepare(list []Listener) (*Change, error) {
	p.reconfiguring.Lock()
	c, err := p.prepare(list)
	if err != nil {
		p.reconfiguring.Unlock()
		return nil, err
	}
	return c, nil
}

func (p *Proxy) prepare(list []Listener) (*Change, error) {
	if !p.serving.Load() {
		return nil, ErrStopped
	}
	c, err := newChange(p, list)
	if err != nil {
		return nil, err
	}
	return c, c.bind()
}

// A Change leads from one list of listeners to another.
type Change struct {
	proxy     *Proxy
	next      []*listener
	newcomers []*newcomer
	replaced  map[*listener]*listener // what follows those whose sockets stay
	closed    map[*listener]bool      // those whose sockets go
}

// A newcomer is a listener that needs sockets.
type newcomer struct {
	*listener
	fds []int32 // one for each loop; -1 when the loop has it
}

// Apply is the second half of Reconfigure. It fails if another process has taken one of the addresses meanwhile, or the
// Proxy was stopped; then nothing has changed.
func (c *Change) Apply() error {
	p := c.proxy
	defer p.reconfiguring.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		c.release()
		return ErrStopped
	}
	return c.apply(p.everywhere)
}

// Abandon gives back what Prepare has reserved.
func (c *Change) Abandon() {
	c.release()
	c.proxy.reconfiguring.Unlock()
}

// openFirst opens the first listeners, before the loops run.
func (p *Proxy) openFirst(list []Listener) error {
	c, err := newChange(p, list)
	if err != nil {
		return err
	}
	if err := c.bind(); err != nil {
		return err
	}
	return c.apply(func(f func(*loop)) {
		for _, l := range p.loops {
			f(l)
		}
	})
}

// apply carries out the change, or takes back what it has done of it. each has every loop call a function.
func (c *Change) apply(each func(func(*loop))) (err error) {
	p := c.proxy
	c.share()
	each(func(l *loop) {
		if err == nil {
			err = l.attach(c)
		}
	})
	if err != nil {
		each(func(l *loop) { l.detach(c) })
		c.release()
		for _, n := range c.newcomers {
			p.retire(n.listener)
		}
		return err
	}
	each(func(l *loop) { l.adopt(c) })
	for _, ln := range p.listeners {
		if !slices.Contains(c.next, ln) {
			p.retire(ln)
		}
	}
	p.listeners = c.next
	for _, ln := range p.listeners {
		ln.shared.queue.configure(ln.Connects, p.waitingRoom(ln))
		p.configureRoutes(ln)
	}
	return nil
}

// retire remembers a listener that accepts nobody any more for as long as it has connections.
func (p *Proxy) retire(ln *listener) {
	p.former = slices.DeleteFunc(append(p.former, ln), func(ln *listener) bool { return ln.open.Load() == 0 })
}

// share gives the new listeners what they share by name. A name has one, whatever happens to the listener behind it.
func (c *Change) share() {
	p := c.proxy
	for _, ln := range c.next {
		if ln.shared != nil {
			continue
		}
		for _, known := range [][]*listener{c.next, p.listeners, p.former} {
			i := slices.IndexFunc(known, func(k *listener) bool { return k != ln && k.Name == ln.Name && k.shared != nil })
			if i >= 0 {
				ln.shared = known[i].shared
				break
			}
		}
		if ln.shared == nil {
			ln.shared = newAdmission(len(p.loops))
		}
		ln.shareRoutes(len(p.loops))
	}
}

// newChange compares the lists. It opens nothing.
func newChange(p *Proxy, list []Listener) (*Change, error) {
	old := p.listeners
	c := &Change{proxy: p, replaced: make(map[*listener]*listener), closed: make(map[*listener]bool)}
	for _, ln := range old {
		c.closed[ln] = true // until somebody wants its sockets
	}
	for _, o := range list {
		c.next = append(c.next, newListener(o))
	}
	c.match(old, func(was, is *listener) bool { return was.Address == is.Address && was.Name == is.Name })
	c.match(old, func(was, is *listener) bool { return was.Address == is.Address })
	for _, ln := range c.next {
		if ln.wanted.IsValid() {
			continue
		}
		var err error
		if ln.wanted, err = resolve(ln.Address); err != nil {
			return nil, ln.failed(err)
		}
	}
	c.match(old, func(was, is *listener) bool { return is.wanted == was.wanted || is.wanted == was.at })
	for i, ln := range c.next {
		for _, other := range c.next[:i] {
			if overlap(ln.place(), other.place()) {
				return nil, ln.failed(fmt.Errorf("%w (by listener %s)", unix.EADDRINUSE, other.Name))
			}
		}
		if !ln.at.IsValid() {
			c.newcomers = append(c.newcomers, &newcomer{listener: ln})
		}
	}
	return c, nil
}

// match lets new listeners take over the sockets of old ones that are the same by some measure.
func (c *Change) match(old []*listener, same func(was, is *listener) bool) {
	for i, is := range c.next {
		if is.at.IsValid() {
			continue
		}
		for _, was := range old {
			if !c.closed[was] || was.Socket != is.Socket || !same(was, is) {
				continue
			}
			delete(c.closed, was)
			if was.same(is.Listener) {
				c.next[i] = was // nothing has changed
				break
			}
			is.wanted, is.at = was.wanted, was.at
			c.replaced[was] = is
			break
		}
	}
}

// bind takes the addresses of all listeners that need sockets, without listening there yet: clients that come
// before it is certain that the change will be made belong to the listeners as they are.
func (c *Change) bind() error {
	for _, n := range c.newcomers {
		if err := c.bindOne(n, len(c.proxy.loops)); err != nil {
			c.release()
			return n.failed(err)
		}
	}
	return nil
}

// bindOne opens one socket for each loop. The address is first tried without sharing, so that another process there,
// even another mqttlb, is an error and not a silent partner. That cannot be tried where the address overlaps with a
// listener of ours that is about to go, as :1883 does with 127.0.0.1:1883; there, only a process that shares its
// address too would go unnoticed.
func (c *Change) bindOne(n *newcomer, loops int) error {
	if n.Socket > 0 {
		return n.inherit(loops)
	}
	at := n.wanted
	err := c.bindAt(n, at, loops)
	if errors.Is(err, unix.EAFNOSUPPORT) && at.Addr().IsUnspecified() {
		err = c.bindAt(n, netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port()), loops) // a host without IPv6
	}
	return err
}

func (c *Change) bindAt(n *newcomer, at netip.AddrPort, loops int) error {
	if !c.overlapsWithClosed(at) {
		fd, err := listen(at, false)
		if err != nil {
			return err
		}
		at = netip.AddrPortFrom(at.Addr(), localAddr(fd).Port())
		closeSocket(fd)
	}
	for range loops {
		fd, err := bindSocket(at, true)
		if err != nil {
			return err
		}
		n.fds = append(n.fds, fd)
	}
	n.at = at
	return nil
}

func (c *Change) overlapsWithClosed(at netip.AddrPort) bool {
	for ln := range c.closed {
		if overlap(ln.at, at) {
			return true
		}
	}
	return false
}

// release closes the sockets that no loop has.
func (c *Change) release() {
	for _, n := range c.newcomers {
		for i, fd := range n.fds {
			if fd >= 0 {
				closeSocket(fd)
				n.fds[i] = -1
			}
		}
	}
}

// attach begins to listen where the change opens listeners.
func (l *loop) attach(c *Change) error {
	for _, n := range c.newcomers {
		fd := n.fds[l.id]
		if err := unix.Listen(int(fd), backlog); err != nil {
			return n.failed(err)
		}
		if err := l.listenOn(n.listener, fd); err != nil {
			return n.failed(err)
		}
		n.fds[l.id] = -1
	}
	return nil
}

// detach takes attach back.
func (l *loop) detach(c *Change) {
	for _, a := range l.listeners {
		if slices.ContainsFunc(c.newcomers, func(n *newcomer) bool { return n.listener == a.listener }) {
			l.stopListeningOn(a)
		}
	}
}

// adopt lets the sockets that stay serve their new listeners, and closes those that go.
func (l *loop) adopt(c *Change) {
	for _, a := range l.listeners {
		switch {
		case c.closed[a.listener]:
			l.stopListeningOn(a)
		case c.replaced[a.listener] != nil:
			a.listener = c.replaced[a.listener]
		}
	}
}
