package proxy

import (
	"encoding/binary"
	"net/netip"
	"strconv"

	proxyproto "github.com/pires/go-proxyproto"
)

// addresses are what a header says of both ends: both of IPv4 or both of IPv6, where one of IPv4 is mapped. An end that is
// not known, as that of a unix socket, is said to be the other one, or 0.0.0.0 if neither is known: there is always a
// header, because brokers that expect one wait for it, and mosquitto ends a connection whose header names no
// address (protocol.md, 1.2).
func addresses(src, dst netip.AddrPort) (netip.AddrPort, netip.AddrPort) {
	if !src.IsValid() {
		src = dst
	}
	if !dst.IsValid() {
		dst = src
	}
	if !src.IsValid() {
		src = netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
		dst = src
	}
	a, b := src.Addr().Unmap(), dst.Addr().Unmap()
	if !a.Is4() || !b.Is4() {
		a, b = netip.AddrFrom16(a.As16()), netip.AddrFrom16(b.As16()) // without a zone
	}
	return netip.AddrPortFrom(a, src.Port()), netip.AddrPortFrom(b, dst.Port())
}

// family is that of what addresses has returned.
func family(a netip.AddrPort) proxyproto.AddressFamilyAndProtocol {
	if a.Addr().Is4() {
		return proxyproto.TCPv4
	}
	return proxyproto.TCPv6
}

// addressesSize is how many bytes both ends take in a header of version 2.
func addressesSize(a netip.AddrPort) int { return 2 * (a.Addr().BitLen()/8 + 2) }

// appendAddresses adds what addresses has returned to a header of version 2.
func appendAddresses(dst []byte, from, to netip.AddrPort) []byte {
	for _, a := range [...]netip.Addr{from.Addr(), to.Addr()} {
		if a.Is4() {
			b := a.As4()
			dst = append(dst, b[:]...)
			continue
		}
		b := a.As16()
		dst = append(dst, b[:]...)
	}
	dst = binary.BigEndian.AppendUint16(dst, from.Port())
	return binary.BigEndian.AppendUint16(dst, to.Port())
}

// appendLine adds a header of version 1 (specification, 2.1).
func appendLine(dst []byte, from, to netip.AddrPort) []byte {
	name := "TCP4 "
	if family(from) == proxyproto.TCPv6 {
		name = "TCP6 "
	}
	dst = append(append(dst, signatureV1...), name...)
	dst = append(from.Addr().AppendTo(dst), ' ')
	dst = append(to.Addr().AppendTo(dst), ' ')
	dst = append(strconv.AppendUint(dst, uint64(from.Port()), 10), ' ')
	return append(strconv.AppendUint(dst, uint64(to.Port()), 10), "\r\n"...)
}
