// Usage: verify, with jobs on standard input as ../node/run.mjs takes them, and results on standard output as it prints them.
//
// go-jose reads the JWK Set and refuses all of it if one key is not valid. golang-jwt verifies the tokens.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

type job struct {
	URL        string            `json:"url"`
	Issuer     string            `json:"issuer"`
	Audience   string            `json:"audience"`
	Algorithms []string          `json:"algorithms"`
	Tokens     map[string]string `json:"tokens"`
}

type answer struct {
	Keys    []string                  `json:"keys"`
	Results map[string]map[string]any `json:"results"`
}

func main() {
	var jobs []job
	if err := json.NewDecoder(os.Stdin).Decode(&jobs); err != nil {
		fail(err)
	}
	answers := []answer{}
	for _, one := range jobs {
		set, err := read(one.URL)
		if err != nil {
			fail(err)
		}
		answers = append(answers, judge(one, set))
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func read(url string) (*jose.JSONWebKeySet, error) {
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var set jose.JSONWebKeySet
	return &set, json.NewDecoder(response.Body).Decode(&set)
}

func judge(one job, set *jose.JSONWebKeySet) answer {
	judged := answer{Keys: []string{}, Results: map[string]map[string]any{}}
	for _, key := range set.Keys {
		judged.Keys = append(judged.Keys, key.KeyID)
	}
	parser := jwt.NewParser(
		jwt.WithValidMethods(one.Algorithms),
		jwt.WithIssuer(one.Issuer),
		jwt.WithAudience(one.Audience),
		jwt.WithExpirationRequired(),
	)
	for name, text := range one.Tokens {
		token, err := parser.Parse(text, func(token *jwt.Token) (any, error) { return find(set, token) })
		if err != nil {
			judged.Results[name] = map[string]any{"error": err.Error()}
		} else {
			judged.Results[name] = map[string]any{"claims": token.Claims}
		}
	}
	return judged
}

// find returns the key that the header names. Its alg must be that of the token (RFC 8725, section 3.1).
func find(set *jose.JSONWebKeySet, token *jwt.Token) (any, error) {
	kid, _ := token.Header["kid"].(string)
	keys := set.Key(kid)
	if len(keys) != 1 {
		return nil, fmt.Errorf("%d keys have the kid %q", len(keys), kid)
	}
	if keys[0].Algorithm != token.Method.Alg() {
		return nil, errors.New("the key is for another algorithm")
	}
	return keys[0].Key, nil
}
