import jwt from "jsonwebtoken";
import jwksRsa from "jwks-rsa";

export async function open({ url, issuer, audience, algorithms }) {
  const client = jwksRsa({ jwksUri: url });

  function getKey(header, done) {
    client.getSigningKey(header.kid).then(
      (key) => done(null, key.getPublicKey()),
      (error) => done(error),
    );
  }

  return {
    verify(token) {
      return new Promise((resolve, reject) => {
        jwt.verify(token, getKey, { issuer, audience, algorithms }, (error, claims) =>
          error ? reject(error) : resolve(claims),
        );
      });
    },
    async keys() {
      return (await client.getSigningKeys()).map((key) => key.kid);
    },
  };
}
