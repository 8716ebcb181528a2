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

/** Many waiters for one condition: `notify` wakes all of them. */
export class Notifier {
  readonly #waiters = new Set<() => void>();

  notify(): void {
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    for (const waiter of waiters) waiter();
  }

  /** Resolves at the next `notify`. @throws GatewayError GW_ABORTED. */
  wait(signal: AbortSignal): Promise<void> {
    let waiter: () => void = () => {};
    const woken = new Promise<void>((resolve) => {
      waiter = resolve;
      this.#waiters.add(waiter);
    });
    return abortable(woken, signal).finally(() => this.#waiters.delete(waiter));
  }
}
