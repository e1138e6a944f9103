import { KEYUTIL, KJUR } from "jsrsasign";

export async function open({ url, issuer, audience, algorithms }) {
  const { keys } = await (await fetch(url)).json();
  return {
    async verify(token) {
      const { headerObj, payloadObj } = KJUR.jws.JWS.parse(token);
      const jwk = keys.find((key) => key.kid === headerObj.kid);
      if (!jwk) {
        throw new Error("no such kid");
      }
      const accepted = { alg: algorithms, iss: [issuer], aud: [audience] };
      if (!KJUR.jws.JWS.verifyJWT(token, KEYUTIL.getKey(jwk), accepted)) {
        throw new Error("verifyJWT said no");
      }
      return payloadObj;
    },
  };
}
