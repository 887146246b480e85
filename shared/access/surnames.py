"""Chinese surnames of two characters (复姓), simplified and traditional: those of 百家姓 and others still borne."""

COMPOUND_SURNAMES = frozenset(  # one string, because a list of quoted pairs cannot be read
    """
    万俟 司马 上官 欧阳 夏侯 诸葛 闻人 东方 赫连 皇甫 尉迟 公羊 澹台 公冶 宗政 濮阳 淳于 单于 太叔 申屠
    公孙 仲孙 轩辕 令狐 钟离 宇文 长孙 慕容 鲜于 闾丘 司徒 司空 亓官 司寇 仉督 子车 颛孙 端木 巫马 公西
    漆雕 乐正 壤驷 公良 拓跋 夹谷 宰父 谷梁 段干 百里 东郭 南门 呼延 羊舌 微生 梁丘 左丘 东门 西门 南宫
    第五 独孤 达奚 贺兰 纳兰 叶赫 完颜 耶律 那拉 富察 北宫 公输 仆固 豆卢 屈突 哥舒 斛律 贺拔 贺若
    歐陽 司馬 諸葛 聞人 東方 赫連 尉遲 澹臺 濮陽 單于 公孫 仲孫 軒轅 鍾離 鐘離
    長孫 鮮于
    閭丘 子車 顓孫 巫馬 漆雕 樂正 壤駟 夾谷 穀梁 東郭 南門 東門 西門 南宮 獨孤 達奚
    賀蘭 納蘭 葉赫 完顏 萬俟 北宮 公輸
    """.split()  # noqa: SIM905
)
