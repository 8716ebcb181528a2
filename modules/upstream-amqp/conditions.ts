// What a broker's outcomes and conditions mean for us. Decided by the symbols of AMQP 1.0 (2.8.15 to 2.8.18) alone: texts are
// for people.

import {
  ACCEPTED,
  type AmqpAnswer,
  type AmqpError,
  type DeliveryResult,
  type EndpointClosed,
  GatewayError,
  type ErrorCode,
  type FailureKind,
} from '#sdk';

const SIZE_EXCEEDED = 'amqp:link:message-size-exceeded';

/** Everything else is `transient`. */
const KINDS: Readonly<Record<string, FailureKind>> = {
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
/** Texts of a peer are shown cut off. */
const TEXT_CHARS = 300;

function kindOf(error: AmqpError | undefined): FailureKind {
  return (error === undefined ? undefined : KINDS[error.condition]) ?? 'transient';
}

/** Condition and description as a sentence part. */
export function conditionText({ condition, description }: AmqpError): string {
  const told = description === undefined || description === '' ? '' : `: ${description.replaceAll(/\p{Cc}+/gu, ' ')}`;
  return `${condition}${told}`.slice(0, TEXT_CHARS);
}

/** The answer for one message by the outcome that the broker gave it (3.4). */
export function answerResult(answer: AmqpAnswer): DeliveryResult {
  switch (answer.outcome) {
    case 'accepted':
      return ACCEPTED;
    case 'released':
      return { status: 'retry', kind: 'transient', reason: 'The broker released the message: it did not take it.' };
    case 'unknown':
      return { status: 'retry', kind: 'transient', reason: 'The broker settled the message and did not say how.' };
    case 'modified':
      return answer.undeliverableHere
        ? { status: 'rejected', reason: 'The broker says that the message cannot be delivered there (modified).' }
        : { status: 'retry', kind: 'transient', reason: 'The broker could not deliver the message (modified).' };
    case 'rejected': {
      const { error } = answer;
      const kind = kindOf(error);
      const reason =
        error === undefined
          ? 'The broker rejected the message and did not say why.'
          : `The broker rejected the message (${conditionText(error)}).`;
      // A queue that is full takes it later.
      if (kind === 'throttled') return { status: 'retry', kind: 'transient', reason, blameless: true };
      return kind === 'transient' ? { status: 'rejected', reason } : { status: 'retry', kind, reason };
    }
  }
}

/** A link that the broker refused or ended. */
export interface LinkEnd {
  readonly kind: 'transient' | 'unauthorized';
  readonly reason: string;
  /** A message was larger than the link takes (2.8.17): the largest of those under way. */
  readonly isSize: boolean;
  /** It is a matter of the address, not of what was sent there. */
  readonly isPlace: boolean;
}

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

export function linkEnd(address: string, error: AmqpError | undefined): LinkEnd {
  const why = error === undefined ? 'without a reason' : `(${conditionText(error)})`;
  return {
    kind: kindOf(error) === 'unauthorized' ? 'unauthorized' : 'transient',
    reason: `The broker ended the link to the address "${address}" ${why}.`,
    isSize: error?.condition === SIZE_EXCEEDED,
    isPlace: error === undefined || PLACE.has(error.condition),
  };
}

/** The error for a CLOSE instead of an OPEN. */
export function refusedError(error: AmqpError | undefined, target: string): GatewayError {
  const kind = kindOf(error);
  const why = error === undefined ? 'without a reason' : `(${conditionText(error)})`;
  // Where there is no such virtual host, a person has to act.
  const isAbsent = error?.condition === 'amqp:not-found' || error?.condition === 'amqp:invalid-field';
  return new GatewayError(CODES[kind] ?? 'GW_PROTOCOL', `${target} refused the connection ${why}.`, {
    kind: isAbsent ? 'invalid' : kind,
    details: { condition: error?.condition },
  });
}

/** Why the broker ended the connection. */
export function closedReason(error: AmqpError, target: string): EndpointClosed {
  return { kind: kindOf(error), reason: `${target} ended the connection (${conditionText(error)}).` };
}
