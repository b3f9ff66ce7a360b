package ldap

import (
	"net"
	"strings"
	"sync"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
	goldap "github.com/go-ldap/ldap/v3"
)

// fake is a directory of users, who are all in the group "all", with what can
// go wrong.
type fake struct {
	addr string

	mu        sync.Mutex
	listener  net.Listener
	conns     map[net.Conn]bool
	passwords map[string]string // By DN.
	binds     []string          // DNs.
	searches  int
	most      int           // Connections at a time.
	code      int           // Of every answer, if it is not 0.
	hold      chan struct{} // Nobody gets an answer before it is closed. Nil: all do.
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{conns: map[net.Conn]bool{}, passwords: map[string]string{}}
	for _, name := range []string{"alice", "bob", "carol"} {
		f.passwords[userDN(name)] = name + "'s"
	}
	f.up(t, "127.0.0.1:0")
	t.Cleanup(f.down)
	return f
}

func userDN(name string) string { return "uid=" + name + ",ou=people," + base }

// up makes it listen.
func (f *fake) up(t *testing.T, addr string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.listener, f.addr = l, l.Addr().String()
	f.mu.Unlock()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns[c] = true
			f.most = max(f.most, len(f.conns))
			f.mu.Unlock()
			go f.serve(c)
		}
	}()
}

// down ends all connections, and takes no more.
func (f *fake) down() {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.listener.Close()
	f.cut()
	if f.hold != nil {
		close(f.hold)
		f.hold = nil
	}
}

// cut ends all connections; f.mu is held.
func (f *fake) cut() {
	for c := range f.conns {
		_ = c.Close()
		delete(f.conns, c)
	}
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// asked returns how many binds there were of a DN, and how many searches.
func (f *fake) asked(dn string) (binds, searches int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.binds {
		if b == dn {
			binds++
		}
	}
	return binds, f.searches
}

func (f *fake) serve(c net.Conn) {
	defer func() {
		_ = c.Close()
		f.set(func() { delete(f.conns, c) })
	}()
	for {
		p, err := ber.ReadPacket(c)
		if err != nil || len(p.Children) < 2 {
			return
		}
		f.mu.Lock()
		hold := f.hold
		f.mu.Unlock()
		if hold != nil {
			<-hold
		}
		id, _ := p.Children[0].Value.(int64)
		for _, answer := range f.answer(p.Children[1]) {
			m := ber.NewSequence("")
			m.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, ""))
			m.AppendChild(answer)
			if _, err := c.Write(m.Bytes()); err != nil {
				return
			}
		}
	}
}

func (f *fake) answer(op *ber.Packet) []*ber.Packet {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch int(op.Tag) {
	case goldap.ApplicationBindRequest:
		dn, password := op.Children[1].Data.String(), op.Children[2].Data.String()
		f.binds = append(f.binds, dn)
		code := f.code
		if code == 0 && (f.passwords[dn] != password) {
			code = goldap.LDAPResultInvalidCredentials
		}
		return []*ber.Packet{result(goldap.ApplicationBindResponse, code)}
	case goldap.ApplicationSearchRequest:
		f.searches++
		found := []*ber.Packet{}
		filter, _ := goldap.DecompileFilter(op.Children[6])
		for dn := range f.passwords {
			name, _, _ := strings.Cut(strings.TrimPrefix(dn, "uid="), ",")
			byDN := op.Children[0].Data.String() == dn
			if f.code == 0 && (byDN || strings.Contains(filter, "(uid="+name+")")) {
				found = append(found, entry(dn, name))
			}
		}
		return append(found, result(goldap.ApplicationSearchResultDone, f.code))
	}
	return nil
}

func result(tag ber.Tag, code int) *ber.Packet {
	p := ber.Encode(ber.ClassApplication, ber.TypeConstructed, tag, nil, "")
	p.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, int64(code), ""))
	p.AppendChild(text(""))
	p.AppendChild(text(""))
	return p
}

func entry(dn, name string) *ber.Packet {
	p := ber.Encode(ber.ClassApplication, ber.TypeConstructed, goldap.ApplicationSearchResultEntry, nil, "")
	p.AppendChild(text(dn))
	all := ber.NewSequence("")
	for _, a := range [][2]string{{"uid", name}, {"memberOf", "cn=all,ou=groups," + base}} {
		values := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSet, nil, "")
		values.AppendChild(text(a[1]))
		one := ber.NewSequence("")
		one.AppendChild(text(a[0]))
		one.AppendChild(values)
		all.AppendChild(one)
	}
	p.AppendChild(all)
	return p
}

func text(s string) *ber.Packet {
	return ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, s, "")
}
