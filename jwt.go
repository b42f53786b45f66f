package mooncore

import (
	"context"
	"time"
)

// JWTConfig says which tokens are good and how they are signed. Its algorithms follow from its keys: RS256, ES256, EdDSA;
// HS256 only when Secret alone is set.
type JWTConfig struct {
	// Issuer is the claim iss that tokens get and must have. Default "mooncore".
	Issuer string

	// PrivateKey signs, and its public half verifies: one PEM block. Default none; New makes one in development if there is
	// neither another key nor Authenticate.
	PrivateKey Secret

	// PublicKeys verify too: PEM blocks one after another, or a JWK set. A block's kid is its RFC 7638 thumbprint.
	// A server that has no PrivateKey only verifies. Default none.
	PublicKeys string

	// Secret is the symmetric key of HS256, at least 32 bytes. Default none.
	Secret Secret

	// Lifetime is how long a token of [Server.Token] is good. Default 18h.
	Lifetime time.Duration

	// MaxLifetime refuses tokens that were issued for longer. Default 0: any.
	MaxLifetime time.Duration

	// Leeway is how far clocks may differ for exp and nbf. Default 0.
	Leeway time.Duration

	// Revoked are revocations to start with: those that OnRevoke kept. Default none.
	Revoked []Revocation

	// OnRevoke is called with each revocation made on this server, before it takes effect, so that a program can keep it. If it
	// fails, so does the revocation's call, and nothing is revoked. Default nil: revocations end with the process.
	OnRevoke func(ctx context.Context, r Revocation) error
}

// A Revocation refuses tokens that would else be good: one by its TokenID, or all of a user issued up to a time.
type Revocation struct {
	// TokenID is the jti of one token. If it is set, App, Tenant, User and IssuedUntil don't count.
	TokenID string

	// App, Tenant and User name whose tokens are refused.
	App, Tenant, User string

	// IssuedUntil is the last iat that is refused, in whole seconds.
	IssuedUntil time.Time

	// Expires is when no refused token can be good any more, and the revocation can be forgotten. The zero time is never.
	Expires time.Time
}
