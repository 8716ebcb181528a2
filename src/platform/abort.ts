// Waiting that can be stopped.

import { GatewayError } from '../core/errors.ts';

/** @throws GatewayError GW_ABORTED when the signal has aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw abortError(signal);
}

export function abortError(signal: AbortSignal): GatewayError {
  return new GatewayError('GW_ABORTED', 'Stopped on request.', { cause: signal.reason });
}

/**
 * Waits for a promise or the signal, whichever is first, and leaves no listener behind.
 * @throws GatewayError GW_ABORTED when the signal aborts first; the promise goes on, its later rejection is swallowed.
 */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) {
    promise.catch(() => {});
    return Promise.reject(abortError(signal));
  }
  return new Promise<T>((resolve, reject) => {
    const onAbort = (): void => reject(abortError(signal));
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

interface Waiter {
  readonly signal: AbortSignal | undefined;
  readonly resolve: () => void;
  readonly reject: (error: GatewayError) => void;
}

/**
 * Many waiters for one condition: `notify` wakes all of them. Some are waited for thousands of times a second, so a signal
 * is listened to once, for as long as it lives, and nothing stands in a `Set`: listeners and the tables of sets are chained
 * to those after them, and once one link is in the old generation every collection of the young keeps all that follow.
 */
export class Notifier {
  #waiters: Waiter[] = [];
  readonly #heard = new WeakSet<AbortSignal>();

  notify(): void {
    if (this.#waiters.length === 0) return;
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const { resolve } of waiters) resolve();
  }

  /** Resolves at the next `notify`. Without a signal nothing else ends it. @throws GatewayError GW_ABORTED. */
  wait(signal?: AbortSignal): Promise<void> {
    if (signal !== undefined) {
      if (signal.aborted) return Promise.reject(abortError(signal));
      this.#hear(signal);
    }
    return new Promise<void>((resolve, reject) => {
      this.#waiters.push({ signal, resolve, reject });
    });
  }

  #hear(signal: AbortSignal): void {
    if (this.#heard.has(signal)) return;
    this.#heard.add(signal);
    const onAbort = (): void => {
      const waiters = this.#waiters;
      this.#waiters = waiters.filter((waiter) => waiter.signal !== signal);
      for (const waiter of waiters) if (waiter.signal === signal) waiter.reject(abortError(signal));
    };
    signal.addEventListener('abort', onAbort, { once: true });
  }
}
