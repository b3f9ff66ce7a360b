package main_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// How a row of articleRows is held.
const byStep = "a step of TestArticles"

// articleRows are what five articles on registry:2 do with it, or wish of it,
// and what shows that regctl does it: a step of TestArticles, or what is said.
var articleRows = map[string]string{
	"S1": byStep, "S2": byStep, "S3": byStep, "S4": byStep, "S5": byStep, "S6": byStep, "S7": byStep, "S8": byStep,
	"S9": byStep, "S10": byStep, "S11": byStep, "S12": byStep, "S13": byStep, "S14": byStep, "S15": byStep, "S16": byStep,
	"S17": byStep, "S18": byStep, "S19": byStep, "S20": byStep, "S21": byStep, "S22": byStep, "S23": byStep, "S24": byStep,
	"S25": byStep, "S26": byStep, "S27": byStep, "S28": byStep, "S29": byStep, "S30": byStep, "S32": byStep,
	"S31": "a wish for certificates without Let's Encrypt: regctl cert and serve --tls self, TestTLSClients",

	"S33": byStep, "S34": byStep, "S35": byStep, "S37": byStep, "S38": byStep, "S39": byStep, "S40": byStep, "S41": byStep,
	"S36": byStep, "S48": byStep, "S99": byStep,
	"S42": "the token protocol: TestAdmission, TestAdmissionOfClients",
	"S43": byStep, "S45": byStep, "S46": byStep,
	"S44": "docker_auth is another image; its tokens and its answers are in testdata of serve/auth/token and serve/auth/dockerauth",
	"S47": "LDAP: in README; logins by GitHub and Google are to come",
	"S49": "one process, port and certificate serve registry and tokens; there is no issuer to keep equal in two files",
	"S50": "a proxy that asks for logins: TestNginx; token servers elsewhere: auth.token",

	"S51": byStep, "S52": byStep, "S53": byStep, "S54": byStep, "S55": byStep, "S56": byStep, "S57": byStep,

	"S58": byStep, "S59": byStep, "S60": byStep, "S61": byStep,
	"S62": byStep, "S63": byStep, "S64": byStep, "S76": byStep, "S88": byStep, "S90": byStep,
	"S91": "named as what one must know; /readyz, /metrics and the access log are in README, Watching it",
	"S93": byStep, "S94": byStep,
	"S95": "documentation of the API: the table of README, which a test compares with the routes",
	"S96": byStep, "S97": byStep, "S98": byStep, "S100": byStep,
}

// rowsOfArticles are those that must be in the list.
func rowsOfArticles() []string {
	var rows []string
	for _, span := range [][2]int{{1, 64}, {76, 76}, {88, 88}, {90, 91}, {93, 100}} {
		for n := span[0]; n <= span[1]; n++ {
			rows = append(rows, fmt.Sprintf("S%d", n))
		}
	}
	return rows
}

func TestArticleRows(t *testing.T) {
	for _, row := range rowsOfArticles() {
		if articleRows[row] == "" {
			t.Errorf("%s: nothing shows it, and nothing says why", row)
		}
	}
}

// oldRecipes are the lines of articles that no file shows to be wrong, or that
// cannot be done as they stand: the first cells of the table of README.
var oldRecipes = []string{
	"`docker login -e`",
	"`ssl on`",
	"`.pem` in `certs.d`",
	"`storage.oss`",
	"a certificate with only a CN",
	"a CA and a certificate of one name",
}

// oldRecipe says that a test goes on with what the table of README says.
func oldRecipe(tb testing.TB, cell string) {
	tb.Helper()
	if !slices.Contains(oldRecipes, cell) {
		tb.Errorf("%s is not in the list of old recipes", cell)
	}
}

func TestOldRecipesAreInREADME(t *testing.T) {
	_, section, found := strings.Cut(read(t, "../../README.md"), "\n## Old recipes\n")
	if !found {
		t.Fatal("README has no section Old recipes")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var got []string
	for _, row := range regexp.MustCompile(`(?m)^\| (.*?) \| (.+?) \| (.+?) \|$`).FindAllStringSubmatch(section, -1) {
		if row[1] != "old recipe" {
			got = append(got, row[1])
		}
	}
	if want := slices.Sorted(slices.Values(oldRecipes)); !slices.Equal(slices.Sorted(slices.Values(got)), want) {
		t.Errorf("README explains %q, the tests meet %q", got, want)
	}
}
