import { describe, expect, it } from 'vitest';
import { readPayloadKey } from '../../../../src/platform/payload-keys.ts';
import { openPayload, type OpenedPayload } from '../../../../src/platform/sealed-payload.ts';
import { createSeal } from '../../../../src/upstream/seal.ts';
import { message } from '../../../support/builders.ts';
import { keyTexts } from '../../../support/payload-keys.ts';
import { ScriptedEndpoint } from '../../../support/scripted-endpoint.ts';
import { clock, startRig } from '../../../support/upstream-rig.ts';

const reader = keyTexts();

function open(text: string): Promise<OpenedPayload> {
  const key = readPayloadKey(reader.privateKey, 'open');
  if ('fault' in key) throw new Error(key.fault);
  return openPayload(text, [key], []);
}

describe('an endpoint with a seal', () => {
  it('seals after the time was made right, and says what it sent', async () => {
    const endpoint = new ScriptedEndpoint();
    const seal = await createSeal({ recipients: [reader.publicKey] });
    await using rig = startRig(endpoint, 'live_first', clock, undefined, { seal });
    const time = { bootId: 'early', monotonicMs: 5000, wallMs: 0, clock: 'unknown' } as const;
    await rig.outbox.recordClockOffset('early', Date.UTC(2026, 0, 1));
    const text = '{"device":"meter-1","time":"1970-01-01T00:00:00.000Z"}';
    const systemProperties = { contentType: 'application/json', contentEncoding: 'utf-8' };
    const own = message({ text, time, systemProperties, stamps: { timeAt: text.indexOf('1970') } });
    const foreign = message({ text: 'raw', time, properties: { level: 'alarm' } });
    await rig.outbox.append([
      { message: own, queues: [] },
      { message: foreign, queues: [] },
    ]);
    await rig.drained();
    expect(endpoint.acceptedMessages.map(({ message: { properties } }) => properties)).toEqual([
      { 'fieldpost-sealed': 'jwe' },
      { level: 'alarm', 'fieldpost-sealed': 'jwe' },
    ]);
    const [first, second] = endpoint.acceptedMessages;
    expect(first?.message.systemProperties).toEqual({ contentType: 'application/jose+json', contentEncoding: 'utf-8' });
    expect(first?.message.stamps).toBeUndefined();
    // What passes through has its time beside the body, as without a seal.
    expect(second?.message.systemProperties.creationTimeUtc).toBe('2026-01-01T00:00:05.000Z');
    const opened = await Promise.all(endpoint.accepted.map(open));
    expect(opened.map(({ body }) => Buffer.from(body).toString())).toEqual([
      '{"device":"meter-1","time":"2026-01-01T00:00:05.000Z"}',
      'raw',
    ]);
    expect(opened[0]).toMatchObject({ ...systemProperties, deviceId: own.deviceId, messageId: first?.messageId });
  });

  it('keeps to the order, whatever takes longer to seal', async () => {
    const endpoint = new ScriptedEndpoint();
    const seal = await createSeal({ recipients: [reader.publicKey] });
    await using rig = startRig(endpoint, 'strict', clock, undefined, { seal });
    const texts = Array.from({ length: 40 }, (_, index) => `${index}`.padEnd(index % 7 === 0 ? 100_000 : 4));
    await rig.outbox.append(texts.map((text) => ({ message: message({ text }), queues: [] })));
    await rig.drained();
    const opened = await Promise.all(endpoint.accepted.map(open));
    expect(opened.map(({ body }) => Buffer.from(body).toString())).toEqual(texts);
  });

  it('gives back what could not be sealed, says so, and loses nothing', async () => {
    const endpoint = new ScriptedEndpoint();
    let faults = 2;
    await using rig = startRig(endpoint, 'live_first', clock, undefined, {
      seal: (stored) => {
        faults -= 1;
        return faults >= 0 ? Promise.reject(new Error('no entropy')) : Promise.resolve(stored);
      },
    });
    const texts = await rig.append(1);
    await rig.drained();
    expect(endpoint.accepted).toEqual(texts);
    expect(rig.telemetry.of('endpoint_failed').map(({ fields }) => fields['reason'])).toContain('no entropy');
  });
});
