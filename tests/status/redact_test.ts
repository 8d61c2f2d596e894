/** No secret leaves in a text. */
import { redact } from "../../src/status/redact.ts";
import { assert, suite } from "../support/harness.ts";

const test = suite("status/redact");

const SECRET = "hunter2-Very_Secret";

const LEAKS = [
  `postgres://varve:${SECRET}@db.example:5432/app?sslmode=require`,
  `cannot reach postgresql://varve:${SECRET}@[::1]:5432`,
  `postgres://varve:a/${SECRET}@db.example`,
  `postgres://varve:a@${SECRET}@db.example`,
  `postgres://:${SECRET}@db.example`,
  `postgres://varve@db.example?password=${SECRET}&sslmode=require`,
  `host=db password=${SECRET} user=varve`,
  `host=db password='${SECRET} with spaces' user=varve`,
  `{"secretKey":"${SECRET}"}`,
  `{"accessKey": "${SECRET}"}`,
  `AWS_SECRET_ACCESS_KEY=${SECRET}`,
  `aws_access_key_id: ${SECRET}`,
  `https://bucket/key?X-Amz-Signature=${SECRET}&X-Amz-Credential=${SECRET}`,
  `Authorization: Bearer ${SECRET}`,
  `Authorization: Basic ${SECRET}`,
  `-----BEGIN RSA PRIVATE KEY-----\n${SECRET}\n-----END RSA PRIVATE KEY-----`,
  `-----BEGIN PRIVATE KEY-----\n${SECRET}`,
];

test("redact() hides passwords, keys and tokens wherever they stand", () => {
  for (const text of LEAKS) {
    assert.not(redact(text).includes(SECRET), `leaks: ${redact(text)}`);
    assert.match(redact(text), "***");
  }
});

test("redact() leaves other words alone", () => {
  const texts = [
    "postgres://varve@db.example:5432?sslmode=verify-full",
    "s3://bucket/prefix",
    "Cannot connect to postgres://varve@127.0.0.1:5432: password authentication failed for user varve",
    "Cannot find layer 0000-ffff__1-2 at http://127.0.0.1:9000/bucket",
    "timelines/main/layers/key=7",
  ];
  for (const text of texts) assert.is(redact(text), text);
});

test.run();
