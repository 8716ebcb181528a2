// What a peer's outcomes and conditions mean for us. Decided by the symbols of AMQP 1.0 (2.8.15 to 2.8.18) and those that the peer
// adds, never by a text: texts are for people.

import { ACCEPTED, type DeliveryResult, type FailureKind } from '../core/delivery.ts';
import type { EndpointClosed } from '../core/endpoint.ts';
import { GatewayError, type ErrorCode } from '../core/errors.ts';
import type { AmqpAnswer } from '../wire/amqp-client-types.ts';
import type { AmqpError } from '../wire/amqp-types.ts';

/** A link that the peer refused or ended. */
export interface AmqpLinkEnd {
  readonly kind: 'transient' | 'unauthorized';
  readonly reason: string;
  /** A message was larger than the link takes (2.8.17): the largest of those under way. */
  readonly isSize: boolean;
  /** It is a matter of the address, not of what was sent there. */
  readonly isPlace: boolean;
}

export interface AmqpConditions {
  /** For texts: `broker`, `hub`. */
  readonly peer: string;
  /** The answer for one message by the outcome that the peer gave it (3.4). */
  readonly answerResult: (answer: AmqpAnswer) => DeliveryResult;
  readonly linkEnd: (address: string, error: AmqpError | undefined) => AmqpLinkEnd;
  /** The error for a CLOSE instead of an OPEN. */
  readonly refusedError: (error: AmqpError | undefined, target: string) => GatewayError;
  /** Why the peer ended the connection. */
  readonly closedReason: (error: AmqpError, target: string) => EndpointClosed;
}

export interface AmqpConditionsOptions {
  /** For texts: `broker`, `hub`. */
  readonly peer: string;
  /**
   * What conditions of the peer's own mean, or those of the standard where they mean something else there. A message rejected with
   * one of them is tried again.
   */
  readonly kinds?: Readonly<Record<string, FailureKind | undefined>>;
  /** A limit that is reached (`throttled`) concerns whatever is sent, not one address alone. */
  readonly limitsAll?: boolean;
}

const SIZE_EXCEEDED = 'amqp:link:message-size-exceeded';

const KINDS: Readonly<Record<string, FailureKind | undefined>> = {
  'amqp:unauthorized-access': 'unauthorized',
  'amqp:not-allowed': 'unauthorized',
  'amqp:connection:redirect': 'unauthorized',
  'amqp:link:redirect': 'unauthorized',
  'amqp:resource-limit-exceeded': 'throttled',
};
const CODES: Readonly<Partial<Record<FailureKind, ErrorCode>>> = {
  unauthorized: 'GW_UNAUTHORIZED',
  throttled: 'GW_THROTTLED',
};
/** Conditions that say nothing of a message. */
const PLACE: ReadonlySet<string> = new Set([
  'amqp:not-found',
  'amqp:unauthorized-access',
  'amqp:not-allowed',
  'amqp:resource-limit-exceeded',
  'amqp:resource-locked',
  'amqp:resource-deleted',
  'amqp:link:detach-forced',
  'amqp:link:redirect',
  'amqp:link:stolen',
]);
/** Texts of a peer are shown cut off. */
const TEXT_CHARS = 300;

/** Condition and description as a sentence part. */
export function conditionText({ condition, description }: AmqpError): string {
  const told = description === undefined || description === '' ? '' : `: ${description.replaceAll(/\p{Cc}+/gu, ' ')}`;
  return `${condition}${told}`.slice(0, TEXT_CHARS);
}

/** How the conditions of one kind of peer are read. */
export function amqpConditions({ peer, kinds: own = {}, limitsAll = false }: AmqpConditionsOptions): AmqpConditions {
  const kinds = { ...KINDS, ...own };
  const kindOf = (error: AmqpError | undefined): FailureKind | undefined =>
    error !== undefined && Object.hasOwn(kinds, error.condition) ? kinds[error.condition] : undefined;

  function rejected(error: AmqpError | undefined): DeliveryResult {
    const kind = kindOf(error);
    const reason =
      error === undefined
        ? `The ${peer} rejected the message and did not say why.`
        : `The ${peer} rejected the message (${conditionText(error)}).`;
    if (kind === undefined) return { status: 'rejected', reason };
    // A queue that is full takes it later.
    if (kind === 'throttled' && !limitsAll) return { status: 'retry', kind: 'transient', reason, blameless: true };
    return { status: 'retry', kind, reason };
  }

  return {
    peer,
    answerResult(answer) {
      switch (answer.outcome) {
        case 'accepted':
          return ACCEPTED;
        case 'released':
          return retry(`The ${peer} released the message: it did not take it.`);
        case 'unknown':
          return retry(`The ${peer} settled the message and did not say how.`);
        case 'modified':
          return answer.undeliverableHere
            ? {
                status: 'rejected',
                reason: `The ${peer} says that the message cannot be delivered there (modified).`,
              }
            : retry(`The ${peer} could not deliver the message (modified).`);
        case 'rejected':
          return rejected(answer.error);
      }
    },
    linkEnd(address, error) {
      const why = error === undefined ? 'without a reason' : `(${conditionText(error)})`;
      return {
        kind: kindOf(error) === 'unauthorized' ? 'unauthorized' : 'transient',
        reason: `The ${peer} ended the link to the address "${address}" ${why}.`,
        isSize: error?.condition === SIZE_EXCEEDED,
        isPlace: error === undefined || PLACE.has(error.condition),
      };
    },
    refusedError(error, target) {
      const kind = kindOf(error) ?? 'transient';
      const why = error === undefined ? 'without a reason' : `(${conditionText(error)})`;
      // Where there is no such virtual host, a person has to act.
      const isAbsent = error?.condition === 'amqp:not-found' || error?.condition === 'amqp:invalid-field';
      return new GatewayError(CODES[kind] ?? 'GW_PROTOCOL', `${target} refused the connection ${why}.`, {
        kind: isAbsent ? 'invalid' : kind,
        details: { condition: error?.condition },
      });
    },
    closedReason: (error, target) => ({
      kind: kindOf(error) ?? 'transient',
      reason: `${target} ended the connection (${conditionText(error)}).`,
    }),
  };
}

function retry(reason: string): DeliveryResult {
  return { status: 'retry', kind: 'transient', reason };
}
