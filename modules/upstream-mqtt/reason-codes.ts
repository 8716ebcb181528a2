// What a broker's numbers mean for us. CONNACK numbers of MQTT 3.1.1 (3.2.2.3: 1 to 5) and of MQTT 5 (3.2.2.2: from 0x80)
// do not overlap, so one table serves both.

import { ACCEPTED, GatewayError, type DeliveryResult, type ErrorCode, type FailureKind } from '#sdk';

interface ConnackRow {
  readonly code: ErrorCode;
  readonly kind?: FailureKind;
  readonly text: string;
}

const CONNACK: Readonly<Record<number, ConnackRow>> = {
  1: { code: 'GW_PROTOCOL', kind: 'invalid', text: 'it does not speak this version of MQTT; set `protocol_version`' },
  2: { code: 'GW_UNAUTHORIZED', text: 'it refused the client id; set `client_id`' },
  3: { code: 'GW_PROTOCOL', text: 'the service is not available' },
  4: { code: 'GW_UNAUTHORIZED', text: 'it refused the user name or password' },
  5: { code: 'GW_UNAUTHORIZED', text: 'this client is not authorized to connect' },
  0x80: { code: 'GW_PROTOCOL', text: 'unspecified error' },
  0x81: { code: 'GW_PROTOCOL', kind: 'invalid', text: 'malformed packet' },
  0x82: { code: 'GW_PROTOCOL', kind: 'invalid', text: 'protocol error' },
  0x83: { code: 'GW_PROTOCOL', text: 'an error of that broker' },
  0x84: { code: 'GW_PROTOCOL', kind: 'invalid', text: 'it does not speak MQTT 5; set `protocol_version: 3.1.1`' },
  0x85: { code: 'GW_UNAUTHORIZED', text: 'it refused the client id; set `client_id`' },
  0x86: { code: 'GW_UNAUTHORIZED', text: 'it refused the user name or password' },
  0x87: { code: 'GW_UNAUTHORIZED', text: 'this client is not authorized to connect' },
  0x88: { code: 'GW_PROTOCOL', text: 'the service is not available' },
  0x89: { code: 'GW_THROTTLED', text: 'the broker is busy' },
  0x8a: { code: 'GW_UNAUTHORIZED', text: 'this client is banned' },
  0x8c: { code: 'GW_UNAUTHORIZED', text: 'it wants another method of authentication' },
  0x90: { code: 'GW_PROTOCOL', kind: 'invalid', text: 'it refused the topic of the will' },
  0x95: { code: 'GW_PROTOCOL', kind: 'invalid', text: 'the CONNECT packet is too large for it' },
  0x97: { code: 'GW_THROTTLED', text: 'a quota is used up' },
  0x99: { code: 'GW_PROTOCOL', kind: 'invalid', text: 'it refused the payload of the will' },
  0x9a: { code: 'GW_PROTOCOL', kind: 'invalid', text: 'it does not support a retained will' },
  0x9b: { code: 'GW_PROTOCOL', kind: 'invalid', text: 'it does not support the QoS of the will' },
  0x9c: { code: 'GW_PROTOCOL', kind: 'invalid', text: 'it wants another server to be used' },
  0x9d: { code: 'GW_PROTOCOL', kind: 'invalid', text: 'the server has moved' },
  0x9f: { code: 'GW_THROTTLED', text: 'connections come too fast' },
};

/** The error for a CONNACK that refuses. */
export function connackError(reasonCode: number, target: string): GatewayError {
  const row: ConnackRow = CONNACK[reasonCode] ?? {
    code: 'GW_PROTOCOL',
    text: 'for a reason that MQTT does not define',
  };
  return new GatewayError(row.code, `${target} refused the connection: ${row.text} (code ${hex(reasonCode)}).`, {
    ...(row.kind !== undefined && { kind: row.kind }),
    details: { reasonCode },
  });
}

/** MQTT 5, 3.4.2.1. */
const PUBACK: Readonly<Record<number, DeliveryResult>> = {
  0x00: ACCEPTED,
  // No matching subscribers: the broker has taken it all the same.
  0x10: ACCEPTED,
  0x80: { status: 'retry', kind: 'transient', reason: 'The broker gave an unspecified error (0x80).' },
  0x83: { status: 'retry', kind: 'transient', reason: 'The broker gave an error of its own (0x83).' },
  0x87: { status: 'retry', kind: 'unauthorized', reason: 'Not authorized to publish to this topic (0x87).' },
  0x90: { status: 'rejected', reason: 'The broker refuses the topic name (0x90).' },
  0x91: { status: 'retry', kind: 'transient', reason: 'The broker says that the packet identifier is in use (0x91).' },
  0x97: { status: 'retry', kind: 'throttled', reason: 'A quota at the broker is used up (0x97).' },
  0x99: { status: 'rejected', reason: 'The broker finds the payload not to be in the format announced (0x99).' },
};

/** The answer for one message by the reason code of its PUBACK; codes below 0x80 are success (MQTT 5, 2.4). */
export function pubackResult(reasonCode: number): DeliveryResult {
  const known = PUBACK[reasonCode];
  if (known !== undefined) return known;
  if (reasonCode < 0x80) return ACCEPTED;
  return { status: 'retry', kind: 'transient', reason: `The broker refused the message (${hex(reasonCode)}).` };
}

/** MQTT 5, 3.14.2.1; what is not listed is `transient`. */
const DISCONNECT: Readonly<Record<number, { readonly kind: FailureKind; readonly text: string }>> = {
  0x87: { kind: 'unauthorized', text: 'no longer authorized' },
  0x89: { kind: 'throttled', text: 'the broker is busy' },
  0x8b: { kind: 'transient', text: 'the broker shuts down' },
  0x8d: { kind: 'transient', text: 'it saw no packet within the keep-alive time' },
  0x8e: { kind: 'unauthorized', text: 'another client connected with the same client id; set `client_id`' },
  0x90: { kind: 'transient', text: 'it refuses a topic name' },
  0x93: { kind: 'transient', text: 'more messages were unanswered than it allows' },
  0x95: { kind: 'transient', text: 'a packet was too large for it' },
  0x96: { kind: 'throttled', text: 'messages come too fast' },
  0x97: { kind: 'throttled', text: 'a quota is used up' },
  0x98: { kind: 'throttled', text: 'an administrator ended the connection' },
  0x9c: { kind: 'unauthorized', text: 'it wants another server to be used' },
  0x9d: { kind: 'unauthorized', text: 'the server has moved' },
  0x9f: { kind: 'throttled', text: 'connections come too fast' },
  0xa0: { kind: 'transient', text: 'the longest time of a connection is over' },
};

/** Why the broker ended the connection, by the reason code of its DISCONNECT. */
export function disconnectReason(reasonCode: number, target: string): { kind: FailureKind; reason: string } {
  const row = DISCONNECT[reasonCode];
  return {
    kind: row?.kind ?? 'transient',
    reason: `${target} ended the connection${row === undefined ? '' : `: ${row.text}`} (code ${hex(reasonCode)}).`,
  };
}

function hex(code: number): string {
  return `0x${code.toString(16).padStart(2, '0')}`;
}
