/**
 * A certificate authority and a server certificate, made on the spot with Web Crypto: no openssl needed.
 *
 * Just enough of X.509 (RFC 5280) in DER: P-256 keys, ECDSA with SHA-256, basic constraints, alternative names.
 *
 * @module
 */

/** PEM texts. */
export interface Certificates {
  /** The authority that clients are to trust. */
  authority: string;
  /** The server's certificate, signed by the authority. */
  certificate: string;
  /** The server's private key, PKCS #8. */
  key: string;
}

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256" } as const;
const OID_ECDSA_SHA256 = oid(1, 2, 840, 10045, 4, 3, 2);
const OID_COMMON_NAME = oid(2, 5, 4, 3);
const OID_BASIC_CONSTRAINTS = oid(2, 5, 29, 19);
const OID_KEY_USAGE = oid(2, 5, 29, 15);
const OID_SUBJECT_ALT_NAME = oid(2, 5, 29, 17);

/** Makes both. `hosts` are the names and addresses that the server's certificate is for. */
export async function makeCertificates(hosts: string[]): Promise<Certificates> {
  const authorityKeys = await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const serverKeys = await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const authority = await certify("varve test authority", authorityKeys.publicKey, authorityKeys.privateKey, [
    extension(OID_BASIC_CONSTRAINTS, sequence(tlv(0x01, [0xff]))), // cA = TRUE
    extension(OID_KEY_USAGE, tlv(0x03, [1, 0x06])), // keyCertSign, cRLSign
  ]);
  const certificate = await certify(hosts[0], serverKeys.publicKey, authorityKeys.privateKey, [
    extension(OID_SUBJECT_ALT_NAME, sequence(...hosts.map(generalName))),
  ]);
  const key = new Uint8Array(await crypto.subtle.exportKey("pkcs8", serverKeys.privateKey));
  return {
    authority: pem("CERTIFICATE", authority),
    certificate: pem("CERTIFICATE", certificate),
    key: pem("PRIVATE KEY", key),
  };
}

async function certify(
  commonName: string,
  publicKey: CryptoKey,
  issuerKey: CryptoKey,
  extensions: Uint8Array[],
): Promise<Uint8Array> {
  const day = 24 * 3600 * 1000;
  const signatureAlgorithm = sequence(OID_ECDSA_SHA256);
  const body = sequence(
    tlv(0xa0, integer([2])), // version 3
    integer(crypto.getRandomValues(new Uint8Array(8))),
    signatureAlgorithm,
    name("varve test authority"),
    sequence(time(Date.now() - day), time(Date.now() + 365 * day)),
    name(commonName),
    new Uint8Array(await crypto.subtle.exportKey("spki", publicKey)),
    tlv(0xa3, sequence(...extensions)),
  );
  const raw = await crypto.subtle.sign(
    { name: "ECDSA", hash: "SHA-256" },
    issuerKey,
    body as Uint8Array<ArrayBuffer>,
  );
  // Web Crypto gives r and s side by side, X.509 wants a sequence of two integers.
  const signature = new Uint8Array(raw);
  const pair = sequence(integer(signature.subarray(0, 32)), integer(signature.subarray(32)));
  return sequence(body, signatureAlgorithm, tlv(0x03, [0, ...pair]));
}

/** A DER element: tag, length, content. */
function tlv(tag: number, content: ArrayLike<number>): Uint8Array {
  const length = content.length;
  const header = length < 0x80
    ? [tag, length]
    : length < 0x100
    ? [tag, 0x81, length]
    : [tag, 0x82, length >> 8, length & 0xff];
  const element = new Uint8Array(header.length + length);
  element.set(header);
  element.set(content, header.length);
  return element;
}

function concatenate(parts: Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function sequence(...elements: Uint8Array[]): Uint8Array {
  return tlv(0x30, concatenate(elements));
}

/** A positive integer from big-endian bytes: no leading zeros but the one that keeps it positive. */
function integer(bigEndian: ArrayLike<number>): Uint8Array {
  const bytes = Array.from(bigEndian);
  while (bytes.length > 1 && bytes[0] === 0) bytes.shift();
  if (bytes[0] >= 0x80) bytes.unshift(0);
  return tlv(0x02, bytes);
}

function oid(first: number, second: number, ...rest: number[]): Uint8Array {
  const bytes = [first * 40 + second];
  for (const arc of rest) {
    const groups = [arc & 0x7f];
    for (let left = arc >>> 7; left > 0; left >>>= 7) groups.unshift(left & 0x7f | 0x80);
    bytes.push(...groups);
  }
  return tlv(0x06, bytes);
}

function name(commonName: string): Uint8Array {
  const value = tlv(0x0c, new TextEncoder().encode(commonName)); // UTF8String
  return sequence(tlv(0x31, sequence(OID_COMMON_NAME, value)));
}

/** UTCTime: two digits of the year, seconds, Z. */
function time(milliseconds: number): Uint8Array {
  const text = new Date(milliseconds).toISOString().replace(/\.\d+/, "").replace(/[-:T]/g, "").slice(2);
  return tlv(0x17, new TextEncoder().encode(text));
}

function extension(id: Uint8Array, value: Uint8Array): Uint8Array {
  return sequence(id, tlv(0x01, [0xff]), tlv(0x04, value)); // critical
}

function generalName(host: string): Uint8Array {
  if (/^\d+(\.\d+){3}$/.test(host)) return tlv(0x87, host.split(".").map(Number)); // iPAddress
  return tlv(0x82, new TextEncoder().encode(host)); // dNSName
}

function pem(label: string, der: Uint8Array): string {
  const base64 = btoa(String.fromCharCode(...der)).replace(/.{64}/g, "$&\n").trimEnd();
  return `-----BEGIN ${label}-----\n${base64}\n-----END ${label}-----\n`;
}
