import { createPrivateKey, createPublicKey } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { isGatewayError } from '../../../../src/core/errors.ts';
import { type KeyUse, type PayloadKey, readPayloadKey } from '../../../../src/platform/payload-keys.ts';
import { createPayloadSealer, openPayload } from '../../../../src/platform/sealed-payload.ts';
import { keyTexts } from '../../../support/payload-keys.ts';

const BODY = Buffer.from([0, 255, 10, 123]);
const ABOUT = { deviceId: 'meter-1', messageId: 'k3f9.meter-1.17', contentType: 'application/cbor' };

function key(text: string, use: KeyUse): PayloadKey {
  const read = readPayloadKey(text, use);
  if ('fault' in read) throw new Error(read.fault);
  return read;
}

async function sealed(recipients: readonly string[], sign?: string): Promise<string> {
  const sealer = await createPayloadSealer(
    recipients.map((text) => key(text, 'seal')),
    sign === undefined ? undefined : key(sign, 'sign'),
  );
  return Buffer.from(await sealer.seal({ body: BODY, ...ABOUT })).toString();
}

async function refusal(opening: Promise<unknown>): Promise<string> {
  const error = await opening.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  return isGatewayError(error, 'GW_UNSEAL') ? error.message : `not refused: ${String(error)}`;
}

describe.each(['P-256', 'P-384', 'P-521', 'x25519', 'rsa'] as const)('sealed for a key of %s', (kind) => {
  const reader = keyTexts(kind);

  it('opens with its private key, bytes and what stands beside them as they were', async () => {
    const opened = await openPayload(await sealed([reader.publicKey]), [key(reader.privateKey, 'open')], []);
    expect(opened).toMatchObject({ ...ABOUT, signature: 'none' });
    expect(Buffer.from(opened.body)).toEqual(BODY);
  });
});

describe.each(['P-256', 'P-384', 'P-521', 'ed25519', 'rsa'] as const)('signed with a key of %s', (kind) => {
  const reader = keyTexts();
  const signer = keyTexts(kind);
  const keys = [key(reader.privateKey, 'open')];

  it('is verified by its public key and refused by another', async () => {
    const text = await sealed([reader.publicKey], signer.privateKey);
    const opened = await openPayload(text, keys, [key(signer.publicKey, 'verify')]);
    expect(opened).toMatchObject({ ...ABOUT, signature: 'verified' });
    expect(Buffer.from(opened.body)).toEqual(BODY);
    expect(await openPayload(text, keys, [])).toMatchObject({ ...ABOUT, signature: 'unchecked' });
    expect(await refusal(openPayload(text, keys, [key(keyTexts(kind).publicKey, 'verify')]))).toMatch(/^The signature/);
    const both = [key(keyTexts(kind).publicKey, 'verify'), key(signer.publicKey, 'verify')];
    expect(await openPayload(text, keys, both)).toMatchObject({ signature: 'verified' });
  });
});

describe('a sealed payload', () => {
  const [first, second] = [keyTexts(), keyTexts('x25519')];

  it('has one form, names its readers by RFC 7638, and shows nothing of the body', async () => {
    const one = JSON.parse(await sealed([first.publicKey])) as { recipients: { header: Record<string, unknown> }[] };
    expect(Object.keys(one).sort()).toEqual(['ciphertext', 'iv', 'protected', 'recipients', 'tag']);
    expect(one.recipients.map(({ header }) => header)).toEqual([
      { alg: 'ECDH-ES+A256KW', kid: expect.stringMatching(/^[\w-]{43}$/) as string },
    ]);
    const jwk = { ...createPublicKey(first.publicKey).export({ format: 'jwk' }), kid: 'back-end-2026' };
    const named = JSON.parse(await sealed([JSON.stringify(jwk)])) as typeof one;
    expect(named.recipients[0]?.header['kid']).toBe('back-end-2026');
  });

  it('is opened by each of its recipients and by nobody else', async () => {
    const text = await sealed([first.publicKey, second.publicKey]);
    for (const { privateKey } of [first, second]) {
      expect(Buffer.from((await openPayload(text, [key(privateKey, 'open')], [])).body)).toEqual(BODY);
    }
    const jwk = JSON.stringify(createPrivateKey(first.privateKey).export({ format: 'jwk' }));
    expect(await openPayload(text, [key(keyTexts().privateKey, 'open'), key(jwk, 'open')], [])).toMatchObject(ABOUT);
    expect(await refusal(openPayload(text, [key(keyTexts().privateKey, 'open')], []))).toMatch(
      /^The message is for other keys, or was changed\. It is for /,
    );
  });

  it('has another content key each time', async () => {
    const [one, two] = await Promise.all([sealed([first.publicKey]), sealed([first.publicKey])]);
    expect((JSON.parse(one) as { ciphertext: string }).ciphertext).not.toBe(
      (JSON.parse(two) as { ciphertext: string }).ciphertext,
    );
  });

  it('does not open when anything of it was changed', async () => {
    const keys = [key(first.privateKey, 'open')];
    const jwe = JSON.parse(await sealed([first.publicKey])) as Record<string, unknown>;
    for (const name of ['ciphertext', 'iv', 'tag', 'protected']) {
      const value = String(jwe[name]);
      const changed = { ...jwe, [name]: (value.startsWith('A') ? 'B' : 'A') + value.slice(1) };
      expect(await refusal(openPayload(JSON.stringify(changed), keys, [])), name).toMatch(/^The message is for other/);
    }
  });

  it('that is not signed is refused where a signer is asked for', async () => {
    const text = await sealed([first.publicKey]);
    const verifying = [key(keyTexts().publicKey, 'verify')];
    expect(await refusal(openPayload(text, [key(first.privateKey, 'open')], verifying))).toMatch(/is not signed/);
  });

  it.each([
    '',
    'hello',
    'null',
    '17',
    '{}',
    '{"ciphertext":"a","recipients":[null]}',
    '{"ciphertext":"a","recipients":{}}',
  ])('is not %j', async (text) => {
    expect(await refusal(openPayload(text, [key(first.privateKey, 'open')], []))).toMatch(/^Th(is|e message) is /);
  });
});

describe('a key', () => {
  const p256 = keyTexts();

  it.each([
    ['seal', p256.privateKey, /^is a private key; give the public one alone/],
    ['seal', p256.publicKey + p256.publicKey, /^holds 2 keys; give each a file of its own/],
    ['open', p256.privateKey + p256.privateKey, /^holds 2 keys/],
    ['seal', JSON.stringify(createPrivateKey(p256.privateKey).export({ format: 'jwk' })), /^is a private key/],
    ['seal', 'hello', /^must be a public key in PEM/],
    ['seal', '{"kty":"EC"}', /^must be a public key in PEM/],
    ['seal', keyTexts('ed25519').publicKey, /^is a key of the kind ed25519; it must be one of EC/],
    ['seal', keyTexts('rsa', 1024).publicKey, /^is an RSA key of 1024 bits; it must have 2048/],
    ['sign', p256.publicKey, /^must be a private key in PEM/],
    ['sign', keyTexts('x25519').privateKey, /^is a key of the kind x25519/],
  ] as const)('to %s with is not taken with a fault', (use, text, fault) => {
    expect(readPayloadKey(text, use)).toEqual({ fault: expect.stringMatching(fault) as string });
  });
});
