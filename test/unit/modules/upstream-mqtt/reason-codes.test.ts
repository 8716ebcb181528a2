import { describe, expect, it } from 'vitest';
import { connackError, disconnectReason, pubackResult } from '../../../../modules/upstream-mqtt/reason-codes.ts';

/** Every code that MQTT 5 defines for a PUBACK (3.4.2.1), with what it means for the outbox. */
const PUBACK_CODES: readonly (readonly [number, string])[] = [
  [0x00, 'accepted'],
  [0x10, 'accepted'],
  [0x80, 'retry transient'],
  [0x83, 'retry transient'],
  [0x87, 'retry unauthorized'],
  [0x90, 'rejected'],
  [0x91, 'retry transient'],
  [0x97, 'retry throttled'],
  [0x99, 'rejected'],
];

describe('PUBACK reason codes', () => {
  it.each(PUBACK_CODES)('0x%s', (code, expected) => {
    const result = pubackResult(code);
    expect(result.status === 'retry' ? `retry ${result.kind}` : result.status).toBe(expected);
  });

  it('never take an unknown failure for a success, nor drop a message for it', () => {
    const known = new Set(PUBACK_CODES.map(([code]) => code));
    for (let code = 0; code < 256; code += 1) {
      if (!known.has(code)) expect(pubackResult(code).status).toBe(code < 0x80 ? 'accepted' : 'retry');
    }
  });
});

/** MQTT 3.1.1, 3.2.2.3 and MQTT 5, 3.2.2.2. */
const CONNACK_CODES: readonly (readonly [number, string])[] = [
  [1, 'GW_PROTOCOL invalid'],
  [2, 'GW_UNAUTHORIZED unauthorized'],
  [3, 'GW_PROTOCOL transient'],
  [4, 'GW_UNAUTHORIZED unauthorized'],
  [5, 'GW_UNAUTHORIZED unauthorized'],
  [0x80, 'GW_PROTOCOL transient'],
  [0x81, 'GW_PROTOCOL invalid'],
  [0x82, 'GW_PROTOCOL invalid'],
  [0x83, 'GW_PROTOCOL transient'],
  [0x84, 'GW_PROTOCOL invalid'],
  [0x85, 'GW_UNAUTHORIZED unauthorized'],
  [0x86, 'GW_UNAUTHORIZED unauthorized'],
  [0x87, 'GW_UNAUTHORIZED unauthorized'],
  [0x88, 'GW_PROTOCOL transient'],
  [0x89, 'GW_THROTTLED throttled'],
  [0x8a, 'GW_UNAUTHORIZED unauthorized'],
  [0x8c, 'GW_UNAUTHORIZED unauthorized'],
  [0x90, 'GW_PROTOCOL invalid'],
  [0x95, 'GW_PROTOCOL invalid'],
  [0x97, 'GW_THROTTLED throttled'],
  [0x99, 'GW_PROTOCOL invalid'],
  [0x9a, 'GW_PROTOCOL invalid'],
  [0x9b, 'GW_PROTOCOL invalid'],
  [0x9c, 'GW_PROTOCOL invalid'],
  [0x9d, 'GW_PROTOCOL invalid'],
  [0x9f, 'GW_THROTTLED throttled'],
];

describe('CONNACK codes', () => {
  it.each(CONNACK_CODES)('%s', (code, expected) => {
    const error = connackError(code, 'mqtt://broker');
    expect(`${error.code} ${error.kind}`).toBe(expected);
    expect(error.message).toMatch(/^mqtt:\/\/broker refused the connection: .+\(code 0x[0-9a-f]{2}\)\.$/);
  });
});

describe('DISCONNECT codes', () => {
  it('slow down where the broker asks for it, and otherwise come back', () => {
    expect(disconnectReason(0x8e, 'b').kind).toBe('unauthorized');
    expect(disconnectReason(0x96, 'b').kind).toBe('throttled');
    expect(disconnectReason(0x8b, 'b')).toEqual({
      kind: 'transient',
      reason: 'b ended the connection: the broker shuts down (code 0x8b).',
    });
    expect(disconnectReason(0x77, 'b')).toEqual({ kind: 'transient', reason: 'b ended the connection (code 0x77).' });
  });
});
