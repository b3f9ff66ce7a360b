package event

import (
	"errors"
	"net/http"
	"strings"
)

// mostRedirects are followed, as by net/http.
const mostRedirects = 10

// follow is for [http.Client]: a redirect is followed if it takes the event
// along. What an endpoint is told in headers, or by its URL, is for nobody else.
func follow(next *http.Request, via []*http.Request) error {
	first := via[0]
	if next.Method != first.Method {
		return http.ErrUseLastResponse // See moved.
	}
	if len(via) >= mostRedirects {
		return errors.New("it redirects too often")
	}
	if next.URL.Hostname() != first.URL.Hostname() || first.URL.Scheme == "https" && next.URL.Scheme != "https" {
		next.Header = http.Header{"Content-Type": next.Header["Content-Type"]}
	}
	return nil
}

// moved tells whether an answer says that the endpoint is elsewhere, so that it
// has not taken the event. Many that have taken it show a page (303, or 302).
func moved(res *http.Response) bool {
	switch res.StatusCode {
	case http.StatusMovedPermanently:
		return true
	case http.StatusFound: // As from http:// to https://.
		to, err := res.Location()
		return err == nil && res.Request != nil && strings.TrimSuffix(to.Path, "/") == strings.TrimSuffix(res.Request.URL.Path, "/")
	}
	return false
}
