// Homie, version 4.

import { describe, expect, it } from 'vitest';
import { preset, hear, told, values, sent } from './harness.ts';

describe('homie', () => {
  // https://homieiot.github.io/specification/spec-core-v4_0_0/
  it('reads properties by their attributes, in whatever order these come', () => {
    const dialect = preset('homie');
    const topic = 'homie/super-car';
    expect(told(dialect, `${topic}/$state`, 'ready')).toEqual({ device: 'super-car', online: true });
    expect(told(dialect, `${topic}/$state`, 'lost')).toEqual({ device: 'super-car', online: false });
    expect(values(told(dialect, `${topic}/engine/temperature`, '21.5'))).toEqual({ 'engine/temperature': '21.5' });
    told(dialect, `${topic}/engine/temperature/$datatype`, 'float');
    told(dialect, `${topic}/engine/temperature/$unit`, '°C');
    expect(values(told(dialect, `${topic}/engine/temperature`, '21.5'))).toEqual({ 'engine/temperature °C': 21.5 });
  });

  it('reads what a broker has kept once its data type is known', () => {
    const dialect = preset('homie');
    const kept = (name: string, text: string) =>
      hear(dialect, `homie/car/${name}`, text, true)?.told[0] ?? { device: '' };
    expect(kept('engine/on', 'false').readings).toBeUndefined();
    expect(kept('engine/heat', '20.4').readings).toBeUndefined();
    expect(kept('engine/heat/$unit', '°C').readings).toBeUndefined();
    expect(values(kept('engine/heat/$datatype', 'float'))).toEqual({ 'engine/heat °C': 20.4 });
    expect(kept('engine/heat/$datatype', 'float').readings).toBeUndefined();
    expect(values(kept('engine/heat', '20.5'))).toEqual({ 'engine/heat °C': 20.5 });
    // What it says now is not followed by what it said before.
    expect(values(told(dialect, 'homie/car/engine/on', 'true'))).toEqual({ 'engine/on': 'true' });
    expect(kept('engine/on/$datatype', 'boolean').readings).toBeUndefined();
  });

  it('writes settable properties only', () => {
    const dialect = preset('homie');
    told(dialect, 'homie/car/lights/intensity/$datatype', 'integer');
    expect(sent(dialect, 'car', 'lights/intensity', 40)).toBeUndefined();
    told(dialect, 'homie/car/lights/intensity/$settable', 'true');
    expect(sent(dialect, 'car', 'lights/intensity', 40)).toEqual(['homie/car/lights/intensity/set 40']);
    expect(() => sent(dialect, 'car', 'lights/intensity', 'much')).toThrow(/takes a whole number/);
  });

  it.each([
    ['integer', undefined, [0, -7, 2n ** 60n], [2.5, 1e21, '5', true]],
    ['integer', '5:30', [5, 30], [4, 31, 2n ** 60n]],
    ['float', '-1.5:30', [-1.5, 99 / 10], [-2, 30.1]],
    ['percent', '0:100', [0, 12.5], [101]],
    ['float', 'warm:hot', [1e6], ['1']],
    ['boolean', undefined, [true, false], ['true', 1]],
    ['enum', 'auto,manual', ['auto', 'manual'], ['bogus', 'auto,manual', '']],
    ['enum', undefined, ['anything'], []],
    ['color', 'rgb', ['255,0,7'], ['abc', '256,0,0', '1,2', '1,2,3,4', '-1,0,0', '1, 2,3']],
    ['color', 'hsv', ['360,100,100'], ['361,0,0', '0,101,0']],
    ['string', '1:2', ['any', 3], []],
  ] as const)('sends of %s with $format %s only what fits', (datatype, format, good, bad) => {
    const dialect = preset('homie');
    for (const [name, text] of Object.entries({ $settable: 'true', $datatype: datatype, $format: format ?? '' }))
      told(dialect, `homie/d/n/p/${name}`, text);
    for (const value of good) expect(sent(dialect, 'd', 'n/p', value)).toEqual([`homie/d/n/p/set ${value}`]);
    for (const value of bad)
      expect(() => sent(dialect, 'd', 'n/p', value), String(value)).toThrow(
        expect.objectContaining({ code: 'GW_WRITE_REFUSED' }),
      );
  });

  it('takes a data type that it does not know for text', () => {
    const dialect = preset('homie');
    told(dialect, 'homie/car/lights/mode/$datatype', 'constructor');
    expect(values(told(dialect, 'homie/car/lights/mode', '7'))).toEqual({ 'lights/mode': '7' });
  });
});
