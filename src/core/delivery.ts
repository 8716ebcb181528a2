// The answer of an endpoint for one message. Three ways, never a boolean: only `accepted` lets the outbox delete.

/** Why something did not succeed, for the retry decision. */
export type FailureKind = 'transient' | 'timeout' | 'throttled' | 'unauthorized' | 'invalid';

export type DeliveryResult =
  | { readonly status: 'accepted' }
  | {
      readonly status: 'retry';
      readonly kind: FailureKind;
      readonly reason: string;
      /** Earliest next attempt in ms from now, when the peer named one. */
      readonly retryAfterMs?: number;
      /**
       * Nothing is held against the message: the place that it goes to is not there or takes nothing now. Its device waits
       * for as long as that lasts, and nothing of it goes to the quarantine.
       */
      readonly blameless?: true;
    }
  /** Never accepted, however often it is sent: goes to quarantine with an event. */
  | { readonly status: 'rejected'; readonly reason: string };

export const ACCEPTED: DeliveryResult = Object.freeze({ status: 'accepted' });
