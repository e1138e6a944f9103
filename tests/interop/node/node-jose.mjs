import jose from "node-jose";

export async function open({ url, algorithms }) {
  const store = await jose.JWK.asKeyStore(await (await fetch(url)).json());
  return {
    // It checks signatures; claims are its users' business.
    async verify(token) {
      const { payload } = await jose.JWS.createVerify(store, { algorithms }).verify(token);
      return JSON.parse(payload.toString("utf8"));
    },
    async keys() {
      return store.all().map((key) => key.kid);
    },
  };
}
