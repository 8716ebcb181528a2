import { describe, expect, it } from 'vitest';
import { fieldCommand } from '../../../../src/iothub/field-command.ts';

const read = (body: unknown, name = 'write') =>
  fieldCommand('meter-1', name, Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)));

describe('a command to a device of an adapter through the hub', () => {
  it('writes values, alone or with until when it holds', () => {
    const command = { kind: 'write', deviceId: 'meter-1', values: { relay: true } };
    expect(read({ relay: true })).toEqual({ command });
    expect(read({ values: { relay: true } })).toEqual({ command });
    expect(read({ values: { relay: true }, expires_at: '2026-01-02T03:04:05Z' })).toEqual({
      command,
      expiresAtMs: Date.UTC(2026, 0, 2, 3, 4, 5),
    });
    expect(read('{"counter":9007199254740993}').command).toMatchObject({ values: { counter: 9007199254740993n } });
  });

  it.each([
    ['', /names points and their values/],
    ['not JSON', /not JSON/],
    [{ values: {} }, /names points and their values/],
    [{ values: { relay: null } }, /names points and their values/],
    [{ values: { relay: true }, expires_at: 'soon' }, /expires_at must be a time in UTC such as/],
    [{ values: { relay: true }, expires_at: 5 }, /expires_at must be a time in UTC such as/],
    // A condition that nobody here knows is not dropped in silence.
    [{ values: { relay: true }, expiresAt: '2026-01-02T03:04:05Z' }, /"expiresAt"/],
  ])('refuses %j', (body, text) => {
    expect(() => read(body)).toThrow(text);
  });

  it('is an action by any other name, with the payload as it is', () => {
    const payload = { values: { a: 1 }, expires_at: 'soon', extra: 1 };
    expect(read(payload, 'reset')).toEqual({
      command: { kind: 'action', deviceId: 'meter-1', action: 'reset', payload },
    });
    expect(read('', 'reset')).toEqual({ command: { kind: 'action', deviceId: 'meter-1', action: 'reset' } });
  });
});
