package config

import (
	"net/http"
	"net/url"
	"strings"

	"go.yaml.in/yaml/v3"
)

// secretName tells whether what is called so is for nobody's eyes.
func secretName(name string) bool {
	name = strings.ToLower(name)
	for _, part := range []string{"authorization", "cookie", "password", "secret", "token", "credential", "apikey", "api-key", "accesskey", "accountkey",
		"licensekey", "auth-key", "username", "user"} {
		if strings.Contains(name, part) && name != "useragent" && name != "www-authenticate" {
			return true
		}
	}
	return false
}

// secretSent tells whether a header that we send may be a secret: services have
// names of their own for those.
func secretSent(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Accept", "Accept-Encoding", "Accept-Language", "Cache-Control", "Content-Type", "Host", "User-Agent":
		return false
	}
	return true
}

// hidePath hides the path of a URL as well: that of a webhook is often all that
// its service asks for.
func hidePath(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return Hidden
	}
	if u.Path != "" && u.Path != "/" {
		return hideURL((&url.URL{Scheme: u.Scheme, User: u.User, Host: u.Host}).String()) + "/" + Hidden
	}
	return hideURL(s)
}

// hideURL hides who logs in by a URL, and the values of its query.
func hideURL(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" && strings.Contains(s, "@") {
		return Hidden
	}
	user, query := u.User != nil, u.RawQuery != ""
	if !user && !query && u.Fragment == "" {
		return s
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	shown := u.String()
	if user {
		shown = strings.Replace(shown, "://", "://"+Hidden+"@", 1)
	}
	if query {
		shown += "?" + Hidden
	}
	return shown
}

// showNode writes a value of the file that has no effect.
func showNode(n node, depth int) string {
	n = follow(n)
	switch {
	case depth > maxDepth:
		return "..."
	case n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "://"):
		return show(hideURL(n.Value))
	case n.Kind == yaml.ScalarNode:
		return show(n.Value)
	case n.Kind == yaml.MappingNode:
		var list []string
		for i := 0; i+1 < len(n.Content); i += 2 {
			value := Hidden
			if !secretName(n.Content[i].Value) {
				value = showNode(n.Content[i+1], depth+1)
			}
			list = append(list, n.Content[i].Value+": "+value)
		}
		return "{" + strings.Join(list, ", ") + "}"
	}
	list := make([]string, len(n.Content))
	for i, entry := range n.Content {
		list[i] = showNode(entry, depth+1)
	}
	return "[" + strings.Join(list, ", ") + "]"
}
