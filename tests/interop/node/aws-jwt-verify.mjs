import { JwtVerifier } from "aws-jwt-verify";

export async function open({ url, issuer, audience }) {
  const verifier = JwtVerifier.create({ issuer, audience, jwksUri: url });
  return { verify: (token) => verifier.verify(token) };
}
