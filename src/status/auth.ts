/**
 * Bearer tokens of the status endpoint (RFC 6750), compared in a time that tells nothing of where they differ.
 *
 * @module
 */

const encoder = new TextEncoder();

/** Whether a request may see what a token protects. */
export type Authorizer = (authorization: string | undefined) => Promise<boolean>;

/** Lets everybody in. */
export const EVERYBODY: Authorizer = () => Promise.resolve(true);

/**
 * Lets in who sends one of the tokens as `Authorization: Bearer …`.
 *
 * @throws {TypeError} If a token is empty, or could not be sent in a header: a mistake that would lock the door open or shut.
 */
export function bearerAuthorizer(...tokens: string[]): Authorizer {
  for (const token of tokens) {
    if (!/^[\x21-\x7e]+$/.test(token)) {
      throw new TypeError("Cannot use this token: expected one or more visible ASCII characters");
    }
  }
  const expected = Promise.all(tokens.map(digest));
  return async (authorization) => {
    const given = /^Bearer +([\x21-\x7e]+)$/i.exec(authorization ?? "")?.[1];
    if (given === undefined) return false;
    const actual = await digest(given);
    let accepted = 0;
    for (const token of await expected) accepted |= equal(token, actual);
    return accepted === 1;
  };
}

/** Digests are of one length whatever was sent, and one who does not know the token cannot steer their bytes. */
async function digest(token: string): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", encoder.encode(token)));
}

/** 1 if all bytes are equal, else 0. */
function equal(left: Uint8Array, right: Uint8Array): number {
  let difference = left.length ^ right.length;
  for (let i = 0; i < left.length; i++) difference |= left[i] ^ right[i];
  return difference === 0 ? 1 : 0;
}
