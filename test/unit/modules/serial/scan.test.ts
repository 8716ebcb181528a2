import { describe, expect, it } from 'vitest';
import { lineFormatText, parseLineFormat } from '../../../../modules/serial/line-format.ts';
import { scanOptions } from '../../../../modules/serial/scan-options.ts';
import { textToSend } from '../../../../modules/serial/scan-listen.ts';
import { isBetter, isText, scoreOf } from '../../../../modules/serial/scan-score.ts';

const TEXT = 'W 12.5 kg\r\nW 12.6 kg\r\n';
const NOISE = Buffer.from([0xfe, 0x80, 0x78, 0x00, 0xf8, 0x66, 0x80, 0xfe, 0x00, 0x78, 0x80, 0xf8]);

const ones = (byte: number): number => byte.toString(2).replaceAll('0', '').length;
const sent = (top: (byte: number) => boolean): Buffer =>
  Buffer.from(Buffer.from(TEXT).map((byte) => (top(byte) ? byte | 0x80 : byte)));

describe('what was heard', () => {
  it('is text at the right rate, which is better than noise at a wrong one', () => {
    const text = scoreOf(Buffer.from(TEXT));
    const noise = scoreOf(NOISE);
    expect(text).toEqual({ bytes: 22, printable: 1, lines: 2, sample: 'W 12.5 kg', format: '8N1', sentences: [] });
    expect(isText(text)).toBe(true);
    expect(isText(noise)).toBe(false);
    expect(isBetter(text, noise)).toBe(true);
    expect(isBetter(noise, text)).toBe(false);
  });

  it.each([
    ['7E1', sent((byte) => ones(byte) % 2 === 1)],
    ['7O1', sent((byte) => ones(byte) % 2 === 0)],
    ['7N2', sent(() => true)],
  ])('tells %s by the highest bits', (format, heard) => {
    expect(scoreOf(heard)).toMatchObject({ format, printable: 1, lines: 2, sample: 'W 12.5 kg' });
    // With any other format bytes are what they are.
    expect(scoreOf(heard, '8E1')).toMatchObject({ format: '8E1', sample: expect.not.stringContaining('W 12.5 kg') });
  });

  it('is told as NMEA 0183 by what of it is sound', () => {
    const heard =
      '42,,M,,*47\r\nx!$GPVTG,054.7,T,034.4,M,005.5,N,010.2,K*48\r\n$GPMTW,18.0,C*00\r\n$GPHDT,274.07,T\r\n$GPGG';
    expect(scoreOf(Buffer.from(heard)).sentences).toEqual(['VTG', 'HDT']);
  });

  it('is not taken for 7 bits when it is noise, or a few bytes', () => {
    expect(scoreOf(NOISE)).toMatchObject({ format: '8N1' });
    expect(scoreOf(sent(() => true).subarray(0, 4))).toMatchObject({ format: '8N1' });
  });

  it('is better in another format only when clearly more was heard', () => {
    const whole = scoreOf(Buffer.from(TEXT.repeat(10)), '8E1');
    expect(isBetter(whole, scoreOf(Buffer.from(TEXT.repeat(5)), '8N1'))).toBe(true);
    expect(isBetter(whole, scoreOf(Buffer.from(TEXT.repeat(9)), '8N1'))).toBe(false);
  });
});

it.each(['8N1', '7E1', '7O1', '8E1', '8N2', '7N2'])('%s is the same there and back', (text) => {
  expect(lineFormatText(parseLineFormat(text))).toBe(text);
});

describe('the options of a scan', () => {
  it('take formats as the command line gives them', () => {
    expect(scanOptions.parse({}).formats).toEqual(['8N1']);
    expect(scanOptions.parse({ formats: '8N1,7E1' }).formats).toEqual(['8N1', '7E1']);
  });

  it.each(['', '9N1', '8n1', '8N1,', '8X1', '8N3'])('refuse the format "%s"', (formats) => {
    const result = scanOptions.safeParse({ formats });
    expect(result.error?.issues[0]?.message).toBe('must be formats such as 8N1,7E1');
  });
});

it.each([
  ['W\\r\\n', 'W\r\n'],
  ['\\x02W\\x03', '\u0002W\u0003'],
  ['\\0\\t', '\0\t'],
  ['a\\\\r', 'a\\r'],
  ['\\xfg\\q', '\\xfg\\q'],
])('the text to send, %s, may name characters', (send, sent) => {
  expect(textToSend(send)).toBe(sent);
});
