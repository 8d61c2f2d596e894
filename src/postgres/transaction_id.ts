/**
 * Transaction and multixact ids: 32-bit numbers on a circle, and the 64-bit count behind them.
 *
 * A leaf of postgres/. A plain id is compared with another one modulo 2^32; a *full* id is `epoch * 2^32 + id`, a
 * number that only grows (exact to 2^53, two million wrap-arounds).
 *
 * Source: PostgreSQL src/include/access/transam.h, src/backend/access/transam/{transam,varsup,multixact}.c (14-18).
 *
 * @module
 */

export const InvalidTransactionId = 0;
/** Ids below this one are not transactions: invalid, bootstrap, frozen. */
export const FirstNormalTransactionId = 3;
export const FirstMultiXactId = 1;
export const MaxMultiXactId = 0xffffffff;

const EPOCH = 0x1_0000_0000;

/** `TransactionIdPrecedes`: `id1` is logically older than `id2`. Special ids are older than all others. */
export function transactionIdPrecedes(id1: number, id2: number): boolean {
  if (id1 < FirstNormalTransactionId || id2 < FirstNormalTransactionId) return id1 < id2;
  return ((id1 - id2) | 0) < 0;
}

/** `TransactionIdFollowsOrEquals`. */
export function transactionIdFollowsOrEquals(id1: number, id2: number): boolean {
  return !transactionIdPrecedes(id1, id2);
}

/** `TransactionIdAdvance`: the next id, special ones skipped. */
export function transactionIdAdvance(id: number): number {
  const next = (id + 1) >>> 0;
  return next < FirstNormalTransactionId ? FirstNormalTransactionId : next;
}

/** `TransactionIdRetreat`: the id before, special ones skipped. */
export function transactionIdRetreat(id: number): number {
  const previous = (id - 1) >>> 0;
  return previous < FirstNormalTransactionId ? 0xffffffff : previous;
}

/** `MultiXactIdPrecedes`, and `MultiXactOffsetPrecedes`: no special values. */
export function multiXactIdPrecedes(id1: number, id2: number): boolean {
  return ((id1 - id2) | 0) < 0;
}

/** `PreviousMultiXactId`. */
export function previousMultiXactId(multi: number): number {
  return multi === FirstMultiXactId ? MaxMultiXactId : (multi - 1) >>> 0;
}

/** `NextMultiXactId`: the id after, with 0 skipped. */
export function nextMultiXactId(multi: number): number {
  const next = (multi + 1) >>> 0;
  return next < FirstMultiXactId ? FirstMultiXactId : next;
}

/** The 32-bit id of a full one. */
export function xidOfFullTransactionId(full: number): number {
  return full >>> 0;
}

/** How often ids had wrapped around. */
export function epochOfFullTransactionId(full: number): number {
  return Math.floor(full / EPOCH);
}

export function fullTransactionId(epoch: number, xid: number): number {
  return epoch * EPOCH + xid;
}

/**
 * `FullTransactionIdFromAllowableAt`: the full id of an xid that was assigned before `nextFull`, at most one
 * wrap-around ago.
 */
export function fullTransactionIdBefore(nextFull: number, xid: number): number {
  if (xid < FirstNormalTransactionId) return xid;
  let epoch = epochOfFullTransactionId(nextFull);
  if (xid > xidOfFullTransactionId(nextFull) && epoch > 0) epoch--;
  return fullTransactionId(epoch, xid);
}
