/**
 * What a verb has opened and must close, whatever happens. As AsyncDisposableStack, which Node 20 does not have.
 *
 * @module
 */

/** Closes in reverse order; all are tried, and the first error is thrown. */
export class Cleanup implements AsyncDisposable {
  readonly #closers: (() => unknown)[] = [];

  /** Calls `close` at the end, and waits for it. */
  defer(close: () => unknown): void {
    this.#closers.push(close);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const errors: unknown[] = [];
    for (const close of this.#closers.splice(0).reverse()) {
      try {
        await close();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }
}
