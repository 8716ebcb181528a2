import { generate } from 'mqtt-packet';
import { expect, it } from 'vitest';
import { loadPublishPackets } from '../../../../src/wire/mqtt-publish-packet.ts';

const packets = await loadPublishPackets();

it('gives back what it was given', () => {
  for (const payload of [Buffer.alloc(0), Buffer.from([0, 255]), Buffer.alloc(300_000, 7)]) {
    for (const retain of [false, true]) {
      const packet = { topic: 'büro/1', payload, retain };
      expect(packets.decode(packets.encode(packet))).toEqual(packet);
    }
  }
});

it('takes one whole PUBLISH and nothing else', () => {
  const whole = packets.encode({ topic: 'a', payload: Buffer.from('x'), retain: false });
  const wrong = [
    Buffer.alloc(0),
    whole.subarray(0, -1),
    Buffer.concat([whole, whole]),
    Buffer.concat([whole, whole.subarray(0, 2)]),
    generate({ cmd: 'pingreq' }),
    Buffer.from([0x30, 0xff, 0xff, 0xff, 0xff, 0xff]),
  ];
  expect(wrong.map((bytes) => packets.decode(bytes))).toEqual(wrong.map(() => undefined));
});
