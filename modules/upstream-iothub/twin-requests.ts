// Requests for a twin that wait for their answers, whatever the protocol.

import { GatewayError, type Clock, type TwinAnswer } from '#sdk';

const ANSWER_MS = 30_000;

export interface TwinRequests {
  /**
   * Sends a request; `send` says whether it could.
   * @throws GatewayError GW_DISCONNECTED once `signal` aborts, GW_TIMEOUT.
   */
  ask(signal: AbortSignal, send: (requestId: string) => boolean): Promise<TwinAnswer>;
  /** What came for a request; one that nobody waits for is ignored. */
  answered(requestId: string, answer: TwinAnswer): void;
}

export function createTwinRequests(clock: Clock): TwinRequests {
  /** By their ids; one or two are under way on a connection. */
  const waiting = new Map<string, (answer: TwinAnswer) => void>();
  let requests = 0;
  return {
    async ask(signal, send) {
      const requestId = String((requests += 1));
      const { promise, resolve, reject } = Promise.withResolvers<TwinAnswer>();
      const onEnd = (): void =>
        reject(new GatewayError('GW_DISCONNECTED', 'The connection ended before the hub answered for the twin.'));
      const cancel = clock.after(ANSWER_MS, () =>
        reject(new GatewayError('GW_TIMEOUT', `The hub did not answer for the twin within ${ANSWER_MS} ms.`)),
      );
      waiting.set(requestId, resolve);
      signal.addEventListener('abort', onEnd, { once: true });
      try {
        if (signal.aborted || !send(requestId)) onEnd();
        return await promise;
      } finally {
        cancel();
        waiting.delete(requestId);
        signal.removeEventListener('abort', onEnd);
      }
    },
    answered: (requestId, answer) => waiting.get(requestId)?.(answer),
  };
}
