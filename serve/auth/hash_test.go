package auth

import (
	"errors"
	"strings"
	"testing"
)

const long = "a-much-longer-password-that-exceeds-the-blocks-of-all-hashes-0123456789-0123456789"

// vectors were made by openssl passwd, crypt(3) and Apache's htpasswd.
var vectors = []struct {
	kind              Kind
	password, encoded string
}{
	{APR1, "", "$apr1$saltsalt$a8ml/vK5HEjiZ5oypDWA7/"},
	{APR1, "a", "$apr1$saltsalt$OEnK0QmmvoDzFw9W2yFYT/"},
	{APR1, "secret", "$apr1$saltsalt$LrttParrLPdxvgutaSXWJ0"},
	{APR1, "secret", "$apr1$UVxaAcN1$4cqc3Gm10lq7PvtqotWb9/"},
	{APR1, "пароль", "$apr1$saltsalt$uL51W1Z7SPuo6s1DvkpVZ1"},
	{APR1, long, "$apr1$saltsalt$trinkvEbPZjCk6ci.nGV2."},
	{SHA256, "a", "$5$saltsalt$Mtm6KOxb.PwaKES1sp80SDYOu1T0RdwsBVakhLiqA64"},
	{SHA256, "secret", "$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA"},
	{SHA256, "secret", "$5$rounds=77777$x$SyJiw054rcnVjCMpPh6w1OiQMRNWjTVDha7r0A8iAf9"},
	{SHA256, "пароль", "$5$saltsalt$gqkPySXmNBT3f1NT7OVecNXsVwVge9PqzRvwbXqpxP5"},
	{SHA256, long, "$5$saltsalt$L/o5SyI3SMEEZGWbho4RzTsHIuBAo5hyFvQtZdWmFa3"},
	{SHA512, "a", "$6$saltsalt$8gzUrz5S2/0AfMGfui2LllQQ2fwu.jYnAVGef2XY7gAo0jNFrzHsTq9lMr2ze7QvIJxr4BYOKdgDpx4Va9Atb1"},
	{SHA512, "secret", "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1"},
	{SHA512, "secret", "$6$rounds=1400$anotherlongsalt$GgIsmY8/iRvu5gZ47obybyiAhDD7s7u3Dw7dmgui/06yeirFJjz/UHTF1ruurLHgwOs1LjZn57x0E0WZeclyd1"},
	{SHA512, "пароль", "$6$saltsalt$rUW/PQ7y6C3PzwnUwMulHbaNmxZ.z5SPYSwHT/xZEI4J9z9PoS3Nhq1AhmAWtu0oJlt0cAtnQUasMN0/i/g3r0"},
	{SHA512, long, "$6$saltsalt$F.bq.BAMcZoAFN1pkwmDorCW8G7D7RHSBQqtCK0BxM0sPfWsU67L/39ybaoDHamt3uAVlQkfLkAcUQJYsSYxK."},
	{Bcrypt, "secret", "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"},
	{Bcrypt, "secret", "$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"},
	{Bcrypt, "secret", "$2a$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"},
	{Bcrypt, "secret", "$2y$05$Bv6TjZbDukZsJwaRpWT26.Kl/Sa/Eydy.nex32Udpz/P1jfuFCCK2"},
}

func TestHashesOfOthers(t *testing.T) {
	t.Parallel()
	f := newForms()
	for _, v := range vectors {
		h := f.parse(v.encoded)
		if h.kind != v.kind {
			t.Errorf("%s is taken for %s", v.encoded, h.kind)
			continue
		}
		if !h.matches(v.password) {
			t.Errorf("%s does not match %q", v.encoded, v.password)
		}
		for _, other := range []string{v.password + "x", "x" + v.password, strings.ToUpper(v.password) + "1"} {
			if h.matches(other) {
				t.Errorf("%s matches %q", v.encoded, other)
			}
		}
	}
}

func TestKindsOfHashes(t *testing.T) {
	t.Parallel()
	f := newForms()
	for encoded, want := range map[string]hash{
		"":                                                 {kind: Plain},
		"secret":                                           {kind: Plain},
		"{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=":                {kind: SHA1},
		"{SHA}":                                            {kind: SHA1},
		"gUw/mffD3EVsk":                                    {kind: Crypt},
		"$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/":               {kind: Plain},
		"$2y$05$short":                                     {kind: Plain},
		"$2y$5$" + strings.Repeat("a", 53):                 {kind: Plain},
		"$2y$03$" + strings.Repeat("a", 53):                {kind: Plain},
		"$2y$32$" + strings.Repeat("a", 53):                {kind: Plain},
		"$2y$31$" + strings.Repeat("a", 53):                {kind: TooSlow, cost: 31},
		"$2y$18$" + strings.Repeat("a", 53):                {kind: Bcrypt, cost: 18},
		"$2$10$" + strings.Repeat("a", 53):                 {kind: Bcrypt, cost: 10},
		"$2y$10$" + strings.Repeat("a", 54):                {kind: Plain},
		"$2y$10$" + strings.Repeat("a", 53) + ":x":         {kind: Plain},
		"$5$" + strings.Repeat("a", 43):                    {kind: Plain},
		"$5$s$" + strings.Repeat("a", 43):                  {kind: SHA256, cost: 5000},
		"$5$rounds=1$s$" + strings.Repeat("a", 43):         {kind: SHA256, cost: 1000},
		"$6$rounds=999999999$s$" + strings.Repeat("a", 86): {kind: TooSlow, cost: 999999999},
		"$6$rounds=9999999999999999999$s$" + strings.Repeat("a", 86): {kind: Plain},
		"$apr1$$" + strings.Repeat("a", 22):                          {kind: Plain},
		"$apr1$toolongsalt$" + strings.Repeat("a", 22):               {kind: Plain},
	} {
		want.encoded = encoded
		if got := f.parse(encoded); got != want {
			t.Errorf("%q is %+v, want %+v", encoded, got, want)
		}
	}
	for _, k := range []Kind{SHA1, Crypt, Plain, TooSlow} {
		if k.Refused() == "" || (hash{kind: k, encoded: "x"}).matches("x") {
			t.Errorf("%s is not refused", k)
		}
	}
	for _, k := range []Kind{Bcrypt, APR1, SHA256, SHA512} {
		if why := k.Refused(); why != "" {
			t.Errorf("%s is refused: %s", k, why)
		}
	}
}

func TestHash(t *testing.T) {
	t.Parallel()
	for _, password := range []string{"", "secret", strings.Repeat("x", 72)} {
		encoded, err := Hash(password, MinCost)
		if err != nil {
			t.Fatal(err)
		}
		h := newForms().parse(encoded)
		if !strings.HasPrefix(encoded, "$2y$04$") || h.kind != Bcrypt || h.cost != MinCost || !h.matches(password) || h.matches(password[:len(password)/2]+"y") {
			t.Errorf("%q becomes %s", password, encoded)
		}
	}
	if _, err := Hash(strings.Repeat("x", 73), MinCost); !errors.Is(err, ErrPasswordTooLong) {
		t.Errorf("73 bytes: %v", err)
	}
	for _, cost := range []int{0, 3, 18} {
		if _, err := Hash("x", cost); err == nil {
			t.Errorf("cost %d is taken", cost)
		}
	}
}

// TestDecoys: they are hashes of their kind and cost, and nobody's.
func TestDecoys(t *testing.T) {
	t.Parallel()
	f := newForms()
	for _, want := range []hash{{Bcrypt, 4, ""}, {Bcrypt, 12, ""}, {APR1, 0, ""}, {SHA256, 1000, ""}, {SHA256, 77777, ""}, {SHA512, 5000, ""}} {
		d := decoy(want.kind, want.cost)
		if got := f.parse(d.encoded); got != d || got.kind != want.kind || got.cost != want.cost {
			t.Errorf("the decoy of %+v is %+v", want, got)
		}
		if want.cost < 10 && d.matches("") {
			t.Errorf("the decoy of %+v matches", want)
		}
	}
}
