import { auth } from "express-oauth2-jwt-bearer";

export async function open({ url, issuer, audience, strict = true }) {
  const handler = auth({ issuer, audience, jwksUri: url, strict, clockTolerance: 0 });
  return {
    verify(token) {
      return new Promise((resolve, reject) => {
        const headers = { authorization: `Bearer ${token}`, host: new URL(audience).host };
        const get = (name) => headers[name.toLowerCase()];
        const request = { method: "GET", headers, get, protocol: "https", query: {}, body: {}, is: () => false };
        handler(request, {}, (error) => (error ? reject(error) : resolve(request.auth.payload)));
      });
    },
  };
}
