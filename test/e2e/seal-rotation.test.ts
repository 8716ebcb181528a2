// Keys of a seal changed while messages flow, by SIGHUP: at each moment every message opens with a key that its reader has then.

import { createPrivateKey } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { generalDecrypt, type GeneralJWE } from 'jose';
import { connectAsync } from 'mqtt';
import { expect, it } from 'vitest';
import { freePort } from '../support/free-port.ts';
import { startMosquitto } from '../support/mosquitto.ts';
import { keyTexts, type KeyTexts } from '../support/payload-keys.ts';
import { subscribe } from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';
import { startDaemon, temporaryDirectory } from './daemon-process.ts';

const ADDRESS = '127.0.164.4';
/** Of each phase. */
const MESSAGES = 100;

/** The text of a message, undefined where the key is of no use. */
function openWith({ privateKey }: KeyTexts, sealed: string): Promise<string | undefined> {
  return generalDecrypt(JSON.parse(sealed) as GeneralJWE, createPrivateKey(privateKey)).then(
    ({ plaintext }) => Buffer.from(plaintext).toString(),
    () => undefined,
  );
}

it('changes the keys of a seal without a gap', async () => {
  using directory = temporaryDirectory();
  const [port, webPort] = [await freePort(ADDRESS), await freePort(ADDRESS)];
  await using broker = await startMosquitto({ address: ADDRESS });
  await using witness = await subscribe(broker.url);
  const [old, next] = [keyTexts(), keyTexts('x25519')];
  const path = (name: string): string => directory.file(`${name}.pem`);
  writeFileSync(path('old'), old.publicKey);
  writeFileSync(path('next'), next.publicKey);
  const configOf = (...recipients: readonly string[]): string => `
gateway: { id: plant-7 }
adapters:
  field:
    type: mqtt
    listen: { address: ${ADDRESS}, port: ${port} }
    anonymous: loopback
    topics: [{ topic: 'sensors/{device_id}/telemetry' }]
upstream:
  type: mqtt
  url: ${broker.url}
  seal: { recipients: [${recipients.map((name) => `!file ${path(name)}`).join(', ')}] }
outbox: { min_free_bytes: 0 }
web: { address: ${ADDRESS}, port: ${webPort} }
`;
  await using daemon = await startDaemon({ config: configOf('old'), web: `${ADDRESS}:${webPort}`, directory });
  const device = await connectAsync(`mqtt://${ADDRESS}:${port}`, { clientId: 'pump' });
  const sent: string[] = [];
  const publish = async (): Promise<void> => {
    const text = `count ${sent.length}`;
    await device.publishAsync('sensors/pump/telemetry', text, { qos: 1 });
    sent.push(text);
  };
  /** Sends on while a change is applied; resolves with how many were sent before it was. */
  async function change(apply: () => void): Promise<number> {
    const applied = (): number => daemon.log().split('"event":"config_applied"').length;
    const before = applied();
    for (let count = 0; count < MESSAGES; count += 1) await publish();
    apply();
    process.kill(daemon.pid, 'SIGHUP');
    while (applied() === before) await publish();
    return sent.length;
  }
  const both = await change(() => writeFileSync(daemon.configPath, configOf('old', 'next')));
  const nextAlone = await change(() => writeFileSync(daemon.configPath, configOf('next')));
  // The text of the configuration stays; what stands in the file behind it is another key.
  const last = keyTexts();
  const lastAlone = await change(() => writeFileSync(path('next'), last.publicKey));
  for (let count = 0; count < MESSAGES; count += 1) await publish();
  await device.endAsync();

  const sealed = (): string[] => [...new Set(witness.texts())];
  await waitFor(() => sealed().length >= sent.length, { timeoutMs: 20_000, what: `${sent.length} messages` });
  const readers = { old, next, last };
  const openedBy = new Map<string, string[]>(sent.map((text) => [text, []]));
  for (const one of sealed()) {
    for (const [name, key] of Object.entries(readers)) {
      const text = await openWith(key, one);
      if (text !== undefined) openedBy.get(text)?.push(name);
    }
  }
  const readersOf = (from: number, to?: number): string[] => [
    ...new Set(sent.slice(from, to).flatMap((text) => openedBy.get(text) ?? [])),
  ];
  expect([...openedBy.values()].filter((names) => names.length === 0)).toEqual([]);
  expect(readersOf(both, both + MESSAGES)).toEqual(['old', 'next']);
  expect(readersOf(nextAlone, nextAlone + MESSAGES)).toEqual(['next']);
  expect(readersOf(lastAlone)).toEqual(['last']);
  expect(daemon.log()).not.toContain('message_rejected');
});
