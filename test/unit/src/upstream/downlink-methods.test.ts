import { expect, it } from 'vitest';
import type { FieldCommand } from '../../../../src/iothub/field-command.ts';
import { callMethod } from '../../../../src/upstream/downlink-methods.ts';

const AT = '2026-01-02T03:04:05Z';

async function call(name: string, payload: unknown) {
  const run: FieldCommand[] = [];
  const answer = await callMethod(
    {
      gatewayId: 'plant-7',
      run: (command) => {
        run.push(command);
        return Promise.resolve({ status: 200 });
      },
      methods: undefined,
      actor: 'test',
    },
    name,
    Buffer.from(JSON.stringify(payload)),
  );
  return { answer, run };
}

it.each([
  ['writePoint', { values: { relay: true } }, { kind: 'write', deviceId: 'm', values: { relay: true } }],
  ['invokeAction', { action: 'reset', payload: 7 }, { kind: 'action', deviceId: 'm', action: 'reset', payload: 7 }],
])('%s holds until its expires_at', async (name, fields, command) => {
  const { answer, run } = await call(name, { device_id: 'm', ...fields, expires_at: AT });
  expect(answer.status).toBe(200);
  expect(run).toEqual([{ command, expiresAtMs: Date.parse(AT) }]);
  expect((await call(name, { device_id: 'm', ...fields })).run).toEqual([{ command, expiresAtMs: undefined }]);
});

it.each([
  ['writePoint', { device_id: 'm', values: { relay: true }, expires_at: 'bad' }, /expires_at/],
  ['writePoint', { device_id: 'm', values: { relay: true }, extra: 1 }, /extra/],
  ['writePoint', { device_id: 'm', relay: true }, /no "values"/],
  ['writePoint', { values: { relay: true } }, /no "device_id"/],
  ['invokeAction', { device_id: 'm', action: 'reset', expires_at: 'bad' }, /expires_at/],
  ['invokeAction', { device_id: 'm', action: 'reset', extra: 1 }, /"extra" is not known here; allowed:/],
  ['invokeAction', { device_id: 'm' }, /no "action"/],
])('%s with %j does nothing', async (name, payload, reason) => {
  const { answer, run } = await call(name, payload);
  expect(answer).toMatchObject({ status: 400, body: { reason: expect.stringMatching(reason) as unknown } });
  expect(run).toEqual([]);
});
