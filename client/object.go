package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
)

// object is a JSON object that keeps the order of its members and the values
// that nobody asked for. The zero object is empty.
type object struct{ members []member }

type member struct {
	key   string
	value json.RawMessage
}

func (o *object) index(key string) int {
	return slices.IndexFunc(o.members, func(m member) bool { return m.key == key })
}

func (o *object) get(key string) (json.RawMessage, bool) {
	if i := o.index(key); i >= 0 {
		return o.members[i].value, true
	}
	return nil, false
}

func (o *object) set(key string, value json.RawMessage) {
	if i := o.index(key); i >= 0 {
		o.members[i].value = value
		return
	}
	o.members = append(o.members, member{key, value})
}

func (o *object) remove(key string) {
	o.members = slices.DeleteFunc(o.members, func(m member) bool { return m.key == key })
}

func (o *object) keys() []string {
	var keys []string
	for _, m := range o.members {
		keys = append(keys, m.key)
	}
	return keys
}

// UnmarshalJSON takes an object, or null for an empty one.
func (o *object) UnmarshalJSON(raw []byte) error {
	o.members = nil
	d := json.NewDecoder(bytes.NewReader(raw))
	switch token, err := d.Token(); {
	case err != nil:
		return err
	case token == nil:
		return nil
	case token != json.Delim('{'):
		return errors.New("not a JSON object")
	}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		key, _ := token.(string) // Nothing else can stand there.
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
		o.set(key, value)
	}
	_, err := d.Token()
	return err
}

// MarshalJSON writes the members in order.
func (o *object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o.members {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := json.Marshal(m.key)
		if err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(m.value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
