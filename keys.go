package mooncore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"github.com/mooncore/mooncore/internal/strictjson"
)

// Sizes of keys.
const (
	minRSABits  = 2048
	maxRSABits  = 16384 // past it one verification takes milliseconds
	minHMACSize = 32    // bytes: RFC 7518 section 3.2
)

// A verifyKey checks signatures of one algorithm.
type verifyKey struct {
	kid    string
	method jwt.SigningMethod
	key    any // as method.Verify wants it
}

// A signKey makes signatures.
type signKey struct {
	method  jwt.SigningMethod
	private any // as method.Sign wants it
	public  verifyKey
}

// newVerifyKey checks a public key, whose kid becomes its RFC 7638 thumbprint.
func newVerifyKey(public any) (verifyKey, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		switch bits := k.N.BitLen(); {
		case bits < minRSABits:
			return verifyKey{}, errWeakKey("RSA key of %d bits: at least %d", bits, minRSABits)
		case bits > maxRSABits:
			return verifyKey{}, fmt.Errorf("RSA key of %d bits: at most %d", bits, maxRSABits)
		case k.E < 3 || k.E%2 == 0 || k.N.Bit(0) == 0:
			return verifyKey{}, errors.New("RSA key is not valid")
		}
		thumb := thumbprint(fmt.Sprintf(`{"e":%q,"kty":"RSA","n":%q}`, b64(big.NewInt(int64(k.E)).Bytes()), b64(k.N.Bytes())))
		return verifyKey{thumb, jwt.SigningMethodRS256, k}, nil
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return verifyKey{}, errors.New("elliptic curve is not P-256")
		}
		point, err := k.Bytes() // 4, x, y
		if err != nil {
			return verifyKey{}, errors.New("EC key is not valid")
		}
		thumb := thumbprint(fmt.Sprintf(`{"crv":"P-256","kty":"EC","x":%q,"y":%q}`, b64(point[1:33]), b64(point[33:])))
		return verifyKey{thumb, jwt.SigningMethodES256, k}, nil
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return verifyKey{}, errors.New("Ed25519 key is not valid")
		}
		return verifyKey{thumbprint(fmt.Sprintf(`{"crv":"Ed25519","kty":"OKP","x":%q}`, b64(k))), jwt.SigningMethodEdDSA, k}, nil
	}
	return verifyKey{}, errors.New("not a key for RS256, ES256 or EdDSA")
}

// equal reports whether a and b are one key, whatever their kids.
func (a verifyKey) equal(b verifyKey) bool {
	k, ok := a.key.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b.key)
}

func newSignKey(private any) (*signKey, error) {
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, errors.New("not a key for RS256, ES256 or EdDSA")
	}
	public, err := newVerifyKey(signer.Public())
	if err != nil {
		return nil, err
	}
	return &signKey{method: public.method, private: private, public: public}, nil
}

// developmentKey makes a key that lives as long as the process. It is one for ES256, although RS256 is the protocol's default:
// nobody else has its public half, so nobody can tell, and making it takes microseconds, not the 0.1 s or more of an RSA key
// that each start and each test would wait for.
func developmentKey() (*signKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return newSignKey(key)
}

func newSecretKey(secret Secret) (*signKey, error) {
	if len(secret) < minHMACSize {
		return nil, errWeakKey("%d bytes: at least %d", len(secret), minHMACSize)
	}
	key := []byte(secret)
	m := jwt.SigningMethodHS256
	return &signKey{method: m, private: key, public: verifyKey{method: m, key: key}}, nil
}

// parsePrivateKey reads one PEM block. Its errors say nothing of what is in it.
func parsePrivateKey(text string) (*signKey, error) {
	blocks, err := pemBlocks(cleanKeyText(text))
	if err != nil {
		return nil, err
	}
	// openssl ecparam -genkey writes the curve in a block of its own, ahead of a key that names it too.
	blocks = slices.DeleteFunc(blocks, func(b *pem.Block) bool { return b.Type == "EC PARAMETERS" })
	if len(blocks) != 1 {
		return nil, fmt.Errorf("%d PEM blocks: must be one private key", len(blocks))
	}
	block := blocks[0]
	var key any
	switch {
	case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
		return nil, errors.New("the key is encrypted: decrypt it first")
	case block.Type == "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case block.Type == "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case block.Type == "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case block.Type == "PUBLIC KEY" || block.Type == "RSA PUBLIC KEY" || block.Type == "CERTIFICATE":
		return nil, errors.New("holds a public key: it belongs in PublicKeys")
	default:
		return nil, errors.New(`PEM block is none of "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"`)
	}
	if err != nil {
		return nil, errors.New("PEM block of type " + block.Type + " cannot be read")
	}
	return newSignKey(key)
}

// parsePublicKeys reads PEM blocks or a JWK set, or one JWK.
func parsePublicKeys(text string) ([]verifyKey, error) {
	text = cleanKeyText(text)
	if strings.HasPrefix(text, "{") {
		return parseJWKs([]byte(text))
	}
	blocks, err := pemBlocks(text)
	if err != nil {
		return nil, err
	}
	keys := make([]verifyKey, 0, len(blocks))
	for i, block := range blocks {
		key, err := parsePublicBlock(block)
		if err != nil {
			return nil, fmt.Errorf("PEM block %d: %w", i+1, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func parsePublicBlock(block *pem.Block) (verifyKey, error) {
	var key any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = cert.PublicKey
		}
	default:
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return verifyKey{}, errors.New("holds a private key: it belongs in PrivateKey")
		}
		return verifyKey{}, errors.New(`none of "PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE"`)
	}
	if err != nil {
		return verifyKey{}, errors.New(block.Type + " cannot be read")
	}
	return newVerifyKey(key)
}

// pemBlocks splits text. pem.Decode passes over a block that is broken, and would so drop a key without a word.
func pemBlocks(text string) ([]*pem.Block, error) {
	want := strings.Count(text, "-----BEGIN ")
	if want == 0 {
		return nil, errors.New("no PEM block")
	}
	var blocks []*pem.Block
	rest := []byte(text)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		blocks = append(blocks, block)
	}
	if len(blocks) != want {
		return nil, fmt.Errorf("%d of %d PEM blocks can be read", len(blocks), want)
	}
	return blocks, nil
}

// cleanKeyText undoes what environment files do to keys: space and quotes around them, and newlines spelled \n.
func cleanKeyText(text string) string {
	text = strings.TrimSpace(text)
	if n := len(text); n >= 2 && (text[0] == '"' || text[0] == '\'') && text[n-1] == text[0] {
		text = strings.TrimSpace(text[1 : n-1])
	}
	if strings.HasPrefix(text, "{") {
		return text
	}
	return strings.TrimSpace(strings.NewReplacer(`\r`, "", `\n`, "\n").Replace(text))
}

// A jwk is a public key of RFC 7517. Private members are there to be refused.
type jwk struct {
	KeyType string   `json:"kty"`
	ID      *string  `json:"kid"`
	Use     string   `json:"use"`
	Ops     []string `json:"key_ops"`
	Alg     string   `json:"alg"`
	Curve   string   `json:"crv"`
	N       string   `json:"n"`
	E       string   `json:"e"`
	X       string   `json:"x"`
	Y       string   `json:"y"`
	D       string   `json:"d"`
}

// parseJWKs reads a JWK set, or one JWK. Keys for something else than signatures of our algorithms are passed over, as RFC 7517
// section 5 wants; faulty and weak ones are errors.
func parseJWKs(data []byte) ([]verifyKey, error) {
	var keys [1][]byte
	if _, err := strictjson.Scan(data, []string{"keys"}, keys[:]); err != nil {
		return nil, fmt.Errorf("JWK set: %w", err)
	}
	list := []json.RawMessage{data}
	if keys[0] != nil {
		list = nil
		if err := json.Unmarshal(keys[0], &list); err != nil {
			return nil, errors.New(`JWK set: "keys" must be an array`)
		}
	}
	var parsed []verifyKey
	for i, raw := range list {
		key, ok, err := parseJWK(raw)
		if err != nil {
			return nil, fmt.Errorf("JWK %d: %w", i+1, err)
		}
		if ok {
			parsed = append(parsed, key)
		}
	}
	if len(parsed) == 0 {
		return nil, errors.New("JWK set: no key for RS256, ES256 or EdDSA")
	}
	return parsed, nil
}

// parseJWK reports false for a key that is none of ours.
func parseJWK(raw []byte) (verifyKey, bool, error) {
	var k jwk
	if err := json.Unmarshal(raw, &k); err != nil {
		return verifyKey{}, false, errors.New("not an object with members of the right types")
	}
	switch {
	case k.KeyType == "oct":
		return verifyKey{}, false, errors.New("symmetric key: it belongs in Secret")
	case k.D != "":
		return verifyKey{}, false, errors.New("holds a private key")
	case k.KeyType == "":
		return verifyKey{}, false, errors.New("has no kty")
	case k.Use != "" && k.Use != "sig", k.Ops != nil && !slices.Contains(k.Ops, "verify"):
		return verifyKey{}, false, nil
	}
	var public any
	var err error
	switch {
	case k.KeyType == "RSA" && (k.Alg == "" || k.Alg == "RS256"):
		public, err = k.rsa()
	case k.KeyType == "EC" && k.Curve == "P-256" && (k.Alg == "" || k.Alg == "ES256"):
		public, err = k.ec()
	case k.KeyType == "OKP" && k.Curve == "Ed25519" && (k.Alg == "" || k.Alg == "EdDSA" || k.Alg == "Ed25519"):
		public, err = k.ed25519()
	default:
		return verifyKey{}, false, nil
	}
	if err != nil {
		return verifyKey{}, false, err
	}
	key, err := newVerifyKey(public)
	if err == nil && k.ID != nil {
		key.kid = *k.ID
	}
	return key, err == nil, err
}

func (k *jwk) rsa() (any, error) {
	n, err := jwkBytes("n", k.N)
	if err != nil {
		return nil, err
	}
	e, err := jwkBytes("e", k.E)
	if err != nil {
		return nil, err
	}
	if len(e) > 4 || e[0]&0x80 != 0 && len(e) == 4 {
		return nil, errors.New("e is too large")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, nil
}

func (k *jwk) ec() (any, error) {
	x, err := jwkBytes("x", k.X)
	if err != nil {
		return nil, err
	}
	y, err := jwkBytes("y", k.Y)
	if err != nil {
		return nil, err
	}
	if len(x) != 32 || len(y) != 32 {
		return nil, errors.New("x and y must be 32 bytes")
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
	if err != nil {
		return nil, errors.New("x and y are no point of P-256")
	}
	return key, nil
}

func (k *jwk) ed25519() (any, error) {
	x, err := jwkBytes("x", k.X)
	return ed25519.PublicKey(x), err
}

func jwkBytes(member, text string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) == 0 {
		return nil, errors.New(member + " is missing or not base64url")
	}
	return b, nil
}

// JWKS returns the public keys that verify the server's tokens as a JWK set of RFC 7517, for those who verify them elsewhere: the body
// of /.well-known/jwks.json. It has no symmetric key, and is an empty set where there is nothing else.
func (s *Server) JWKS() json.RawMessage {
	set := struct {
		Keys []map[string]string `json:"keys"`
	}{[]map[string]string{}}
	for _, key := range s.tokens.keys {
		if members := key.jwk(); members != nil {
			set.Keys = append(set.Keys, members)
		}
	}
	b, _ := json.Marshal(set) // has no value that cannot be marshaled
	return b
}

// jwk returns the members of a public key, or nil for a symmetric one.
func (a verifyKey) jwk() map[string]string {
	members := map[string]string{"kid": a.kid, "use": "sig", "alg": a.method.Alg()}
	switch k := a.key.(type) {
	case *rsa.PublicKey:
		members["kty"], members["n"], members["e"] = "RSA", b64(k.N.Bytes()), b64(big.NewInt(int64(k.E)).Bytes())
	case *ecdsa.PublicKey:
		point, err := k.Bytes() // 4, x, y
		if err != nil {
			return nil
		}
		members["kty"], members["crv"], members["x"], members["y"] = "EC", "P-256", b64(point[1:33]), b64(point[33:])
	case ed25519.PublicKey:
		members["kty"], members["crv"], members["x"] = "OKP", "Ed25519", b64(k)
	default:
		return nil
	}
	return members
}

// thumbprint is that of RFC 7638 over SHA-256 of the key's required members in order.
func thumbprint(members string) string {
	sum := sha256.Sum256([]byte(members))
	return b64(sum[:])
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
