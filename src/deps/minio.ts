/**
 * minio-js: the S3 client of `src/store/minio.ts`, and of tests.
 *
 * @module
 */
export { Client as MinioClient } from "npm:minio@8.0.7";
