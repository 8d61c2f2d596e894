/**
 * Work on many things, a few at a time.
 *
 * @module
 */

/**
 * Runs `work` on each item, at most `limit` at a time, in order of the items. The first error stops what has not begun and
 * is thrown when what has begun is over.
 */
export async function sideBySide<T>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  let next = 0;
  let failure: { error: unknown } | undefined;
  const run = async () => {
    while (next < items.length && failure === undefined) {
      try {
        await work(items[next++]);
      } catch (error) {
        failure ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, run));
  if (failure !== undefined) throw failure.error;
}
