/**
 * aws4fetch: signs S3 requests with nothing but Web Crypto, for `src/store/s3_fetch.ts`.
 *
 * @module
 */
export { AwsClient } from "npm:aws4fetch@1.0.20";
