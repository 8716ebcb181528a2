// Sealed bodies through a real Mosquitto, opened by what the README gives to a back end.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createSeal } from '../../src/upstream/seal.ts';
import { run } from '../support/command.ts';
import { startMosquitto } from '../support/mosquitto.ts';
import { keyTexts } from '../support/payload-keys.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { clock, mqttTransport, startRig, subscribe } from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.153.1';
const ROOT = join(import.meta.dirname, '..', '..');

/** The program of the README, beside the keys that it names. */
function readmeProgram(directory: TempDir): string {
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');
  const [, program = ''] = /```js\n([^`]*generalDecrypt[^]*?)```/.exec(readme) ?? [];
  expect(program.trim().split('\n').length).toBeLessThanOrEqual(11);
  const path = directory.file('open.mjs');
  writeFileSync(
    path,
    `process.chdir(import.meta.dirname);\n${program.replace(/'jose'/, `'${import.meta.resolve('jose')}'`)}`,
  );
  return path;
}

describe.each(['3.1.1', 5] as const)('sealed bodies over MQTT %s', (protocol_version) => {
  it('are opened by the program of the README and by fieldpost unseal', async () => {
    using directory = createTempDir();
    const [reader, signer] = [keyTexts(), keyTexts('ed25519')];
    writeFileSync(directory.file('back-end.key'), reader.privateKey);
    writeFileSync(directory.file('gateway.pem'), signer.publicKey);
    await using broker = await startMosquitto({ address: ADDRESS });
    await using witness = await subscribe(broker.url);
    const seal = await createSeal({ recipients: [reader.publicKey], sign: signer.privateKey });
    await using rig = startRig(mqttTransport({ url: broker.url, protocol_version }), 'live_first', clock, undefined, {
      seal,
    });
    const texts = await rig.append(20, 'secret-');
    await rig.drained();
    await waitFor(() => witness.received.length === 20);
    const wire = witness.texts();
    expect(wire.join()).not.toContain('secret');
    if (protocol_version === 5) {
      expect(witness.received[0]).toMatchObject({
        contentType: 'application/jose+json',
        userProperties: { 'fieldpost-sealed': 'jwe' },
      });
    }
    const lines = `${wire.join('\n')}\n`;
    const opened = await run(process.execPath, [readmeProgram(directory)], lines);
    const { epoch } = rig.outbox;
    const device = witness.received[0]?.topic.split('/')[2] ?? '';
    expect(opened.trim().split('\n')).toEqual(
      texts.map((text, index) => `${device} ${epoch}.${device}.${index + 1} ${text}`),
    );
    const keys = ['--key', directory.file('back-end.key'), '--signer', directory.file('gateway.pem')];
    const unsealed = await run(process.execPath, [join(ROOT, 'src', 'main.ts'), 'unseal', ...keys], lines);
    expect(unsealed).toBe(texts.map((text) => `${text}\n`).join(''));
  });
});

describe('a sealed message', () => {
  it('that is too large for the broker only once it is sealed goes to the quarantine, and the next one passes', async () => {
    await using broker = await startMosquitto({ address: ADDRESS, maxPacketBytes: 4096 });
    await using witness = await subscribe(broker.url);
    const seal = await createSeal({ recipients: [keyTexts().publicKey] });
    const transport = mqttTransport({ url: broker.url, protocol_version: 5 });
    await using rig = startRig(transport, 'live_first', clock, undefined, { seal });
    await rig.append(1, 'x'.repeat(3000));
    await rig.append(1, 'small');
    await waitFor(() => witness.received.length >= 1);
    await rig.drained();
    const [quarantined] = await rig.outbox.quarantined({ limit: 10 });
    expect(quarantined?.reason).toMatch(/^The message makes a packet of \d+ bytes; the broker takes 4096\.$/);
    expect(quarantined?.stored.message.body.byteLength).toBe(3001);
  });
});
