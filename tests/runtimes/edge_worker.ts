/**
 * What runs in workerd in the tests of this folder: reads pages of a timeline in a bucket, over HTTP.
 *
 * `GET /?rel=1663/5/16384&block=0&at=0/16B3748` answers with the 8192 bytes of a page; without `block` with the first bytes
 * and the number of all pages; errors as text with status 500.
 *
 * @module
 */
import { attachReader, parseLsn, scanRelation, systemClock } from "../../mod.ts";
import { S3FetchStore } from "../../src/store/s3_fetch.ts";

interface Environment {
  ENDPOINT: string;
  BUCKET: string;
  ACCESS_KEY: string;
  SECRET_KEY: string;
}

async function answer(url: URL, env: Environment): Promise<Response> {
  const store = new S3FetchStore({
    endpoint: env.ENDPOINT,
    bucket: env.BUCKET,
    accessKey: env.ACCESS_KEY,
    secretKey: env.SECRET_KEY,
  });
  const attached = await attachReader({ store, clock: systemClock, cacheBytes: 8 * 1024 * 1024 });
  try {
    const [spc, db, rel] = url.searchParams.get("rel")!.split("/").map(Number);
    const at = url.searchParams.get("at");
    const lsn = at === null ? attached.timeline.lastRecordLsn : parseLsn(at);
    const block = url.searchParams.get("block");
    if (block !== null) {
      const page = await attached.reader.getPage({ spc, db, rel }, 0, Number(block), lsn);
      const { rangeRequests, rangeBytes } = attached.files.counters;
      return new Response(page.slice(), {
        headers: { "x-requests": String(rangeRequests), "x-bytes": String(rangeBytes) },
      });
    }
    let pages = 0;
    let sum = 0;
    for await (
      const step of scanRelation(attached, { spc, db, rel }, 0, lsn, { step: 32, readBytes: 4 * 1024 * 1024 })
    ) {
      pages += step.pages.length;
      for (const page of step.pages) {
        for (let i = 0; i < page.length; i += 64) sum = (sum * 31 + page[i]) >>> 0;
      }
    }
    return Response.json({ pages, sum });
  } finally {
    await attached.close();
    await store.close();
  }
}

export default {
  fetch: (request: Request, env: Environment): Promise<Response> =>
    answer(new URL(request.url), env).catch((error) =>
      new Response(`${error.name}: ${error.message}`, { status: 500 })
    ),
};
