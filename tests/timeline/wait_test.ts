/** Waiting for an LSN: who is woken and when, giving up, and what happens when it will never come. */
import type { Lsn } from "../../src/lsn.ts";
import { LsnGate } from "../../src/timeline/wait.ts";
import { assert, suite } from "../support/harness.ts";
import { settle } from "../support/manual_clock.ts";

const test = suite("timeline/wait");
const at = (value: number) => value as Lsn;

test("LsnGate.wait() resolves at once for what is reached", async () => {
  const gate = new LsnGate(at(16));
  await gate.wait(at(8));
  await gate.wait(at(16));
  assert.is(gate.reached, 16);
});

test("LsnGate.advance() wakes those who waited for it, lowest first, and no others", async () => {
  const gate = new LsnGate(at(0));
  const woken: number[] = [];
  for (const lsn of [32, 8, 24, 8, 16]) {
    gate.wait(at(lsn)).then(() => woken.push(lsn), () => woken.push(-lsn));
  }
  gate.advance(at(20));
  await settle();
  assert.equal(woken, [8, 8, 16]);
  gate.advance(at(8));
  assert.is(gate.reached, 20, "going back is ignored");
  gate.advance(at(32));
  await settle();
  assert.equal(woken, [8, 8, 16, 24, 32]);
});

test("LsnGate.wait() gives up with the signal's reason and leaves no listener", async () => {
  const gate = new LsnGate(at(0));
  const controller = new AbortController();
  let listeners = 0;
  const { signal } = controller;
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = (...args: Parameters<typeof add>) => (listeners++, add(...args));
  signal.removeEventListener = (...args: Parameters<typeof remove>) => (listeners--, remove(...args));
  const early = gate.wait(at(8), signal);
  gate.advance(at(8));
  await early;
  assert.is(listeners, 0);
  const late = gate.wait(at(16), signal);
  controller.abort(new Error("enough"));
  await assert.rejects(late, /enough/);
  await assert.rejects(gate.wait(at(16), signal), /enough/);
  assert.is(listeners, 0);
  gate.advance(at(16));
  await gate.wait(at(16), signal);
});

test("LsnGate.fail() ends all waiting, also that which begins later", async () => {
  const gate = new LsnGate(at(8));
  const waiting = gate.wait(at(16));
  gate.fail(new Error("first reason"));
  gate.fail(new Error("second reason"));
  await assert.rejects(waiting, /first reason/);
  await assert.rejects(gate.wait(at(16)), /first reason/);
  await gate.wait(at(8));
}, { timeoutMs: 2000 });

test.run();
