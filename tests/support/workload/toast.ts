/** Workload blocks: values too long for their page, compressed or not, in and out of line. @module */
import { type Block, type Session, SHARED } from "./session.ts";

/** `shared.documents`: one column for each way of storing. */
export const prepareToast: Block = async (session) => {
  await session.run(`
    CREATE TABLE IF NOT EXISTS ${SHARED}.documents (id bigserial PRIMARY KEY, extended text, external text, main text, bytes bytea);
    ALTER TABLE ${SHARED}.documents ALTER external SET STORAGE EXTERNAL, ALTER main SET STORAGE MAIN;
  `);
};

/** An SQL expression for text of about `length` bytes that compresses well, or hardly. */
function longText(session: Session, length: number, compressible: boolean): string {
  if (compressible) return `repeat('${session.random.text(12)} ', ${Math.ceil(length / 13)})`;
  const blocks = Math.ceil(length / 32);
  const salt = session.random.int(0, 1_000_000);
  return `(SELECT string_agg(md5((${salt} + j)::text), '') FROM generate_series(1, ${blocks}) j)`;
}

export const insertDocuments: Block = async (session) => {
  const length = session.random.weighted([[5, 300], [5, 3000], [3, 20_000], [1, 200_000]]);
  await session.run(`INSERT INTO ${SHARED}.documents (extended, external, main, bytes) SELECT
    ${longText(session, length * 4, true)}, ${longText(session, length, false)},
    ${longText(session, Math.min(length, 8000), true)}, convert_to(${
    longText(session, length, false)
  }, 'UTF8')
    FROM generate_series(1, ${session.random.int(1, 3)})`);
};

/** With lz4, where the server has it. */
export const insertLz4Documents: Block = async (session) => {
  const [setting] = await session.run(
    `SELECT enumvals::text AS kinds FROM pg_settings WHERE name = 'default_toast_compression'`,
  );
  if (!String(setting?.kinds).includes("lz4")) return insertDocuments(session);
  await session.transaction([
    "SET LOCAL default_toast_compression = 'lz4'",
    `INSERT INTO ${SHARED}.documents (extended) VALUES (${
      longText(session, session.random.int(3000, 60_000), true)
    })`,
  ]);
};

/** New values for some, and an update that leaves the long ones alone. */
export const updateDocuments: Block = async (session) => {
  const rest = session.random.int(0, 19);
  await session.run(
    `UPDATE ${SHARED}.documents SET external = ${longText(session, 5000, false)} WHERE id % 20 = ${rest}`,
  );
  await session.run(`UPDATE ${SHARED}.documents SET main = 'short' WHERE id % 20 = ${(rest + 1) % 20}`);
};

export const deleteDocuments: Block = async (session) => {
  await session.run(`DELETE FROM ${SHARED}.documents WHERE id % 15 = ${session.random.int(0, 14)}`);
};
